"""What becomes of each keyword, in words: the table of docs/schemas.md, beside the code it describes.

Limits are read from the modules that hold them, so the table cannot drift from the code.
"""

from __future__ import annotations

from engine.schema import alternatives, arrays, lengths, listed, members, objects
from engine.schema.keywords import ASSERTIONS

ALWAYS = "always"

HOW: dict[str, tuple[str, str]] = {
    "$ref": (
        "local pointers, anchors and ids, recursion",
        "it points into a metaschema (other remote targets are refused)",
    ),
    "$dynamicRef": ("the outermost dynamic anchor, by the scope of each use", ""),
    "$recursiveRef": ("draft 2019-09, as `$dynamicRef`", ""),
    "type": ("1.0 is an integer from draft 6 on; tight writes integers without fraction", ""),
    "enum": ("any JSON values, folded with the keywords beside them", ""),
    "const": ("as `enum`", ""),
    "allOf": ("merged, impossible alternatives dropped", ""),
    "anyOf": ("union of the branches", "a branch holds something checked"),
    "oneOf": ("each branch less the branches it overlaps", "a branch that overlaps has no exact complement"),
    "not": ("complement, of objects and arrays too", "what it negates is not held exactly"),
    "if": ("`if` and `then`, or not `if` and `else`", "`if` is not held exactly"),
    "then": ("see `if`", "see `if`"),
    "else": ("see `if`", "see `if`"),
    "minimum": ("digit by digit, exact", ""),
    "maximum": ("as `minimum`", ""),
    "exclusiveMinimum": ("as `minimum`; the boolean of draft 4 too", ""),
    "exclusiveMaximum": ("as `minimum`; the boolean of draft 4 too", ""),
    "multipleOf": ("narrowed: written without exponent", ""),
    "minLength": (
        "code points, an escape counts once",
        "beside a pattern of which a word's length is seldom right, such as `^(abc)*$`, over "
        f"{lengths.FOLDED_STATES} states together; over {lengths.FOLDED_LENGTH} where strings have no quotes",
    ),
    "maxLength": ("as `minLength`", f"over {lengths.FOLDED_LENGTH} where strings have no quotes"),
    "pattern": (
        "ECMA-262, unanchored, lookaround included; long repeats are counted where the text tells them apart",
        "it is no regular language (back references), or too large",
    ),
    "format": ("asserted in every draft that knows the name; some formats narrowed to a subset", ""),
    "contentEncoding": ("base64, in drafts 6 and 7", ""),
    "contentMediaType": ("drafts 6 and 7", "`application/json`"),
    "prefixItems": (ALWAYS, ""),
    "items": ("one schema, or the tuple of older drafts", ""),
    "additionalItems": (ALWAYS, ""),
    "minItems": (
        f"counted, up to {arrays.MOST_REQUIRED}",
        f"over that, or over {arrays.COUNTED} beside `contains` and in parameters of calls",
    ),
    "maxItems": ("counted", f"over {arrays.COUNTED} beside `contains` and in parameters of calls"),
    "uniqueItems": (
        f"items are compared as values; up to {listed.FEW} values of a place, those that are left are counted",
        "in parameters of calls, and where several items are asked for: beside `contains`, or of values that cannot be"
        " named beforehand",
    ),
    "contains": ("counted along the array", "it holds something checked"),
    "minContains": (ALWAYS, ""),
    "maxContains": (ALWAYS, "what is counted has no exact complement"),
    "unevaluatedItems": ("branch by branch, with `contains`", f"over {alternatives.SUBSETS} branches of one anyOf"),
    "properties": (
        "any order in spec; narrowed to schema order in tight, refused there over "
        f"{objects.OPTIONAL_RUN:,} optional ones in a row",
        "",
    ),
    "required": (ALWAYS, f"over {objects.TRACKED} keys in any order, in parameters of calls"),
    "additionalProperties": ("keys outside the declared ones, exactly", "a pattern beside it is not held"),
    "patternProperties": (
        "the keys are cut into regions by the patterns",
        f"a pattern is not held, or over {members.KEY_CLASSES} regions, "
        f"or over {members.WIDE_KEYS} states that read most characters",
    ),
    "propertyNames": ("the keys as an automaton", "what names must be is not held exactly"),
    "minProperties": ("counted", "in parameters of calls, where keys could repeat"),
    "maxProperties": ("counted", "two members or more are asked for by their values, and one could be both"),
    "dependencies": ("key absent, or present with what follows", f"over {alternatives.SPLITS} in one object"),
    "dependentRequired": ("as `dependencies`", "as `dependencies`"),
    "dependentSchemas": ("as `dependencies`", "as `dependencies`"),
    "unevaluatedProperties": ("branch by branch", f"over {alternatives.SUBSETS} branches of one anyOf"),
}


def table() -> str:
    """The keyword table in Markdown, in the order of `ASSERTIONS`."""
    rows = ["| keyword | in the grammar | `checked` when |", "|---|---|---|"]
    for keyword in ASSERTIONS:
        how, when = HOW[keyword]
        rows.append(f"| `{keyword}` | {how} | {when or 'never'} |")
    return "\n".join(rows)
