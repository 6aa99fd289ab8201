"""Guards and least texts come back from the disk as they were, and are named alike in every process."""

from __future__ import annotations

import json
import subprocess
import sys

from engine.grammar.compile.codec import _plain_rule, _rule
from engine.schema.lower import lower
from engine.schema.rules.guards import Packing, unpacked_shared

SCHEMA = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {
            **{key: {"type": "string", "maxLength": 9} for key in "abcdefgh"},
            "j": {"type": "string", "pattern": "^([a-z]{2,50}-){1,40}[0-9]{3}$"},
            "i": {"type": "object", "patternProperties": {"^[x-z]{1,3}[0-9]$": {"type": "string", "minLength": 2}}},
        },
        "anyOf": [{"required": [*"abc"], "maxProperties": 5}, {"required": ["d"], "minProperties": 3}],
    },
    "minItems": 2,
    "maxItems": 9,
}


def test_rules_with_guards_come_back() -> None:
    rules = lower(SCHEMA, conformance="spec").grammar.rules.values()
    assert len({type(guard) for rule in rules for guard in rule.guards}) == 9
    for rule in rules:
        packing = Packing()
        plain = json.loads(json.dumps(_plain_rule(rule, packing)))
        read = _rule(plain, unpacked_shared(json.loads(json.dumps(packing.shared))))
        assert (read.alternatives, read.lookahead) == (rule.alternatives, rule.lookahead)
        assert (read.guards, read.least) == (rule.guards, rule.least)


def test_names_are_the_same_in_every_process() -> None:
    program = f"from engine.schema.lower import lower; print(*lower({SCHEMA!r}, conformance='spec').grammar.rules)"
    here = lower(SCHEMA, conformance="spec").grammar.rules
    there = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=100, check=True)
    assert sorted(there.stdout.split()) == sorted(here)
