"""Writes data/regex_cases.jsonl: what Node's RegExp says of our patterns. `python -m tests.judge.make_regex_cases`.

The first line lists the texts. Every other is {"pattern", "flags", "whole", "found"}: the texts that the pattern
matches from end to end, and those in which it is merely found. `flags` is "u"; "" where only the mode of web pages
takes the pattern (a lone brace, `\\-`); null where neither does. What is tried is in data/patterns.txt, and composed.
"""

from __future__ import annotations

import json
import random
import subprocess
from pathlib import Path

PATTERNS = Path(__file__).parent / "data" / "patterns.txt"
FILE = Path(__file__).parent / "data" / "regex_cases.jsonl"

CHARACTERS = [
    "", "a", "b", "A", "0", "_", "-", " ", "\n", "\r", "\t", "\v", "\f", "\u2028", "\u0085", "\u00a0", "\ufeff", "é",
    "ü", "Ω", "ª", "٣", "😀", "<", ">", "<a>", "[", "]", "{", "}", "(", ")", "()", "\\", "/", "^", "$", ".", "*", "+",
    "?", "&", "~", ":", ";", ",", "=", "!", "#", "@", "%", "'", '"', "`", "\x00", "\x01", "\x08", "\x1b", "|", "aa",
    "ab", "ba", "bb", "aaa", "aaaa", "aab", "abc", "abb", "abcd", "a b", "a\n", "\na", "a]", "a{,3}", "a1b", "1a", "aé",
    "éa", "a.a", "a..a", "a@b", "Ab Cd", "-12.50", "012", "555-1234", "abab", "ababab", "aabb", "zA", "ck", "h", "z",
    "Z", "n", "x", "xx", "u", "d", "e", "R", "Q", "G", "K", "X", "N", "8", "c", "\r\n", "a\r", "L",
]  # fmt: skip
_SCRIPT = """
const {patterns, texts} = JSON.parse(require('fs').readFileSync(0, 'utf8'));
const make = (source, flags) => { try { return new RegExp(source, flags) } catch { return null } };
for (const pattern of patterns) {
  const flags = make(pattern, 'u') ? 'u' : make(pattern, '') ? '' : null;
  const told = source => flags === null ? [] : texts.filter(text => make(source, flags).test(text));
  const whole = told(`^(?:${pattern})$`);
  console.log(JSON.stringify({pattern, flags, whole, found: told(pattern).filter(text => !whole.includes(text))}));
}
"""
_ATOMS = [
    "a", "b", "c", "ab", "[ab]", "[^a]", "[a-c]", r"\d", r"\w", r"\s", ".", r"\.", "(?:a|bc)", "(a|b)", "(?:b?c)", "x",
    r"[^\d]", r"[\w.]", "é", r"(?=a)", r"(?!b)", r"(?<=a)", r"(?<!b)", r"\b", "$", "^",
]  # fmt: skip
_REPEATS = ["", "", "", "*", "+", "?", "{2}", "{1,3}", "{2,}", "*?"]


def composed(random_: random.Random) -> str:
    """A pattern of a few atoms, repeated or not, in one or two alternatives."""
    ways = []
    for _ in range(random_.choice((1, 1, 2))):
        atoms = [random_.choice(_ATOMS) for _ in range(random_.randint(1, 4))]
        fixed = ("(?=", "(?!", "(?<", "\\b", "$", "^")
        ways.append("".join(a if a.startswith(fixed) else a + random_.choice(_REPEATS) for a in atoms))
    return "|".join(ways)


def composed_texts(random_: random.Random) -> list[str]:
    return ["".join(random_.choice("aabbcx1. é_") for _ in range(random_.randint(0, 6))) for _ in range(60)]


def main() -> None:
    random_ = random.Random(19)
    fixed = PATTERNS.read_text("utf-8").split("\n")[:-1]
    given = {
        "patterns": list(dict.fromkeys([*fixed, *(composed(random_) for _ in range(150))])),
        "texts": list(dict.fromkeys([*CHARACTERS, *composed_texts(random_)])),
    }
    told = subprocess.run(["node", "-e", _SCRIPT], input=json.dumps(given), capture_output=True, text=True, check=True)
    lines = [{"texts": given["texts"]}, *(json.loads(line) for line in told.stdout.strip().split("\n"))]
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text("".join(json.dumps(line, ensure_ascii=True, separators=(",", ":")) + "\n" for line in lines))
    print(f"{len(lines) - 1} patterns, {len(given['texts'])} texts")


if __name__ == "__main__":
    main()
