"""Python's grammar: what it takes and what it refuses, and `ast.parse` beside it."""

from __future__ import annotations

import ast
import json
import random
import re
import warnings
from pathlib import Path

import pytest

from engine.syntax import State, start
from tests.syntax.following import dead_at

WHOLE = [
    'f"{f"{f"{1+1}"}"}"',
    "f'{\"\\n\".join(a)}'",
    'f"{x # comment\n}"',
    'f"{x!r:{w}.{p}}"',
    "f'{a['b']}'",
    'f"{x:%H:%M}"',
    'f"{{}}"',
    'rf"\\{x}"',
    'f"\\N{DIGIT ONE}"',
    'f"{x = }"',
    'f"{(lambda x: 1)}"',
    'f"{x:=5}"',
    'f"{x!r }"',
    'f"{*a,}"',
    'f"{yield}"',
    '"a" f"b" rf"c"',
    "1_000.0_1e1_0j",
    'f"""\n{x:\n}\n"""',
    'f"\\{{"',
    'f"\\x41{x}"',
    "x",
    "if a:\n\tb\n\tc",
    "x = 1\r\ny = 2\r\n",
    "x\ry",
    "if 1:\n  x\n\x0c\ny",
    "a[b:=1]",
    "f(a:=1)",
    '{**a, "b": c}',
    "{*a, b}",
    "x if y else lambda: z",
    "def f(a, /, b, *, c=1): ...",
    "def f(*, a): ...",
    "def f(a, b=1, /, c=2, *d, e, **g): ...",
    "lambda *, a=1, **k: 0",
    "async with a as b, c: pass",
    "[x async for x in y]",
    "print(*a, **b)",
    "class A: pass",
    "@x\nclass A:\n  y = 1",
    "try:\n  a\nexcept (A, B) as e:\n  b\nelse:\n  c\nfinally:\n  d",
    "while 1: break",
    "global a, b",
    "x = yield",
    "x = await y",
    "await x",
    "return",
    "return *a, b",
    "del a",
    "del (a), [b]",
    "assert a, b",
    "raise A from b",
    "from a.b import (c, d as e)",
    "import a.b.c as d, e",
    'match x:\n  case A(b, c=1) | {"k": v, **r} | [1, *_] | -1+2j | None | a.b as z if q: pass',
    "match x, y: \n case _: pass",
    "match(x)",
    "match[x] = 1",
    "type = type",
    "type X = int",
    "case = 1",
    "_ = match",
    "x: int",
    "(x): int = 1",
    "x.y: int",
    "x[1]: int",
    "a, *b = c",
    "for a, *b in c: pass",
    "with (a): pass",
    "with (a, b) as c: pass",
    "with (a as b): pass",
    "with a, b: pass",
    "x = *a, b",
    "x @ y",
    "x @= y",
    "not not x",
    "-+~x",
    "x ** -y",
    "x is not y",
    "x not in y",
    "...",
    "x[...]",
    "x[1:2, ::2]",
    "x[:]",
    "x[a, *b]",
    '"""a""" \'b\'',
    'b"a" rb"b"',
    "u'x'",
    "0xFF_FF",
    "0o7",
    "0b1",
    "1e5",
    ".5",
    "5.",
    "1if x else y",
    "x;y;",
    "if x: y; z",
    "\\\nx",
    "if a:\n  b\n  \\\n      c",
    "if a:\n  b\n\\\n  c",
    "if a:\n  b\n\\\n  \\\n c",
    "if a:\n  b\n  \\\n\nc",
    "if a:\n  b\n  \\\n # c\nd",
    "x = 1 \\\n  ",
    "\\\n\\\n\nx",
    "x + \\\ny",
    "(a\n+ b)",
    "# c",
    "  # c\nx",
    "def f[T: int, *U, **V](x: T) -> T: ...",
    "class A[T]: ...",
    "type X[T = int] = list[T]",
    "def f(*a: *T): ...",
    "nonlocal a",
    "if a:\n    pass\n    # c\n  # d\nb",
    "()",
    "(a,)",
    "[]",
    "{}",
    "a = b = c",
    "a += yield",
    "print((yield))",
    "async def f():\n  async for x in y: pass",
    "if True:\n    \\\n    x = 1",
    "x.__class__",
    "é = 1",
    'x = "é"',
]
WRONG = [
    'f"{}"',
    'f"{!r}"',
    'f"{lambda x: 1}"',
    'f"{x! r}"',
    '"a" b"b"',
    "x y",
    'print "x"',
    "(a",
    "f(",
    "1_",
    "1__0",
    "0777\n",
    "def f(a=1, b): ...",
    "def f(*): ...",
    "def f(*, **k): ...",
    "lambda *: 0",
    "f(a=1, b)",
    "f(**a, *b)",
    "f(a for a in b, c)",
    "(*a)",
    "{a: b, c}",
    "{a, b: c}",
    "[a for a in b, c]",
    "del f()",
    "f() = 1",
    "f() += 1",
    "x + 1 = 2",
    "(a, b) += 1",
    "a, b: int",
    "for f() in x: pass",
    "with a as f(): pass",
    "import a.b as c.d",
    "from a import",
    "from a import *, b",
    "class 1: pass",
    "def 1(): pass",
    "if x = 1: pass",
    "x = if",
    "else: pass",
    "elif x: pass",
    "except: pass",
    "try: a\n",
    "try:\n a\nb",
    "if a:\nb",
    "  a",
    "a\n\\\n  b",
    "a \\\n",
    "a\n\\\n",
    "a\n  \\\n",
    "a \\",
    "if a:\n    b\n  c",
    "if a:\n        b\n\tc",
    "if a:\n\tb\n        c",
    "a\n b",
    "match x:\n pass",
    "case x: pass",
    "not",
    "a not b",
    "a is is b",
    "x = = y",
    "x == ",
    "a b c",
    "return = 1",
    "None = 1",
    "True = 1",
    "(None) = 1",
    "...= 1",
    'f"{x}" = 1',
    "a := 1",
    "(a.b := 1)",
    "x[",
    "}",
    "a]",
    "(]",
    '"abc\n',
    "'abc",
    '"""abc',
    '"\\x1"',
    '"\\u12"',
    'b"é"',
    "x = “a”",
    "$",
    "x ? y : z",
    "x++",
    "++",
    "a && b",
    "!a",
    "x -> y",
    "async x",
    "async def",
    "await",
    "yield from",
    "lambda x",
    "raise from x",
    "global",
    "global a.b",
    "assert",
    "@x",
    "@x\ny = 1",
    "type X",
    "x\x00",
    '"\x00"',
    "a\xa0b",
    "x if y",
    "[*a for a in b]",
    "import *",
    "a = 1 2",
    "f(a b)",
    "x = (1 2)",
    "[1 2]",
    "{1 2}",
    "def f(:",
    "def f()",
    "class A(",
    "while x\n",
    "for x y",
    "with",
    "try\n",
    "f(a.b=1)",
    "f(*)",
    "f(**)",
    "f(=1)",
    "x..y",
    "1.a",
    "x.1",
    '"a" x',
    'x "a"',
    "**a",
    'f"{a b}"',
    'f"{a"',
    'f"}"',
]
STDLIB = sorted(Path(json.__file__).parent.glob("*.py")) + sorted(Path(ast.__file__).parent.glob("to*.py"))
MUTANTS = 1_500


def begun(unit: str = "module", *, partial: bool = False) -> State:
    return start("python", unit, partial=partial)


def is_whole(text: str, unit: str = "module", *, partial: bool = False) -> bool:
    state = begun(unit, partial=partial).feed(text)
    return state.alive and state.whole


def parses(text: str) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            ast.parse(text)
        except (SyntaxError, ValueError):
            return False
    return True


@pytest.mark.parametrize("text", WHOLE)
def test_valid_texts_are_alive_throughout_and_whole(text: str) -> None:
    assert dead_at("python", text) is None
    assert is_whole(text)
    assert is_whole(f"{text}\n")


@pytest.mark.parametrize("text", WRONG)
def test_what_is_no_python_is_not_whole(text: str) -> None:
    assert not is_whole(text)


def test_merged_stacks_take_and_refuse_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.syntax.stacks.MOST_APART", 1)
    assert [text for text in WHOLE if not is_whole(text)] == []
    assert [text for text in WRONG if is_whole(text)] == []
    text = Path(ast.__file__).read_text(encoding="utf-8")
    assert is_whole(text)
    assert not is_whole(text.replace("):", ":", 1))


@pytest.mark.parametrize(("text", "good"), [
    ("x y", 2),
    ("f(a]", 3),
    ("print 'x'", 6),
    ("'abc\n", 4),
    ("if x\n", 4),
    ("if x:\ny", 6),
    ("x = 1\n  y", 8),
    ("if x:\n    y\n  z", 14),
    ("esle:\n    x", 5),
    ("f() = 1", 5),
    ("def f(a=1, b)", 12),
    ("f(a=1, b)", 8),
    ("a not b", 6),
    ("f'{a b}'", 5),
    ("return = 1", 7),
    ("b'a\u00e9'", 3),
    ("for f() in", 8),
])  # fmt: skip
def test_an_error_is_found_where_it_is_made(text: str, good: int) -> None:
    assert dead_at("python", text) == good


@pytest.mark.parametrize(("unit", "text", "whole"), [
    ("statements", "", True),
    ("statements", "  x = 1\n  return x", True),
    ("statement", "    if x:\n      y\n", True),
    ("statement", "x\ny", False),
    ("body", "", False),
    ("body", "return 1", True),
    ("body", "\n    x = 1\n    return x\n", True),
    ("body", "    x = 1\n  return x", False),
    ("expression", " a if b else (c,\n d)", True),
    ("expression", "a = 1", False),
    ("expression", "a\nb", False),
    ("type", "dict[str, list[int] | None]", True),
    ("type", "int, str", False),
    ("signature", "def f(a: int, *, b: str = 'x') -> bool", True),
    ("signature", "async def f[T](a: T) -> T:", True),
    ("signature", "f(a) -> int", True),
    ("signature", "def f(a) int", False),
    ("signature", "def f(a):\n  pass", False),
])  # fmt: skip
def test_units(unit: str, text: str, whole: bool) -> None:
    assert is_whole(text, unit) is whole


@pytest.mark.parametrize("text", ["if x:", "x\ntry:", "class A:\n  def f(self):  # now\n", "with a as b:", "match x:"])
def test_a_header_is_enough_when_part_of_a_text_is_asked_for(text: str) -> None:
    assert is_whole(text, partial=True)
    assert not is_whole(text)


def test_no_prefix_of_the_standard_library_is_called_dead() -> None:
    for path in STDLIB:
        text = path.read_text(encoding="utf-8")
        state = begun()
        for piece in re.findall(r"\w+|\s|[^\w\s]", text):
            state = state.feed(piece)
            assert state.alive, path
        assert state.whole, path
        assert not state.lost


def test_changed_statements_are_whole_where_python_parses_them() -> None:
    """Of what this Python refuses some may be whole: what later versions have."""
    rng = random.Random(1)
    statements = [line.strip() for path in STDLIB for line in path.read_text(encoding="utf-8").splitlines()]
    words = [word for line in statements for word in re.findall(r"\w+|[^\w\s]", line)]
    refused = admitted = 0
    for _ in range(MUTANTS):
        parts = re.findall(r"\s+|\w+|[^\w\s]", rng.choice(statements))
        at = rng.randrange(len(parts) + 1)
        parts[at : at + rng.randrange(2)] = [f" {rng.choice(words)} "] * rng.randrange(2)
        text = "".join(parts).strip()
        if parses(text):
            assert is_whole(text), text
        else:
            refused += 1
            admitted += is_whole(text)
    assert refused > MUTANTS / 4
    assert admitted <= refused / 500
