"""What is asked for in a string, and how its judge sees it: as a file around the text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bench.syntax.judges import Accepts, is_python_pattern, judge_of
from engine.syntax import Syntax


@dataclass(frozen=True, slots=True)
class Unit:
    """`file`: what the judge is given, with the text for `%s`."""

    syntax: Syntax
    asked: str
    file: str = "%s"

    @property
    def name(self) -> str:
        return "/".join(filter(None, (self.syntax.language, self.syntax.dialect, self.syntax.unit)))

    def judge(self, commands: Mapping[str, str]) -> Accepts | None:
        if self.syntax.dialect == "python":
            return is_python_pattern
        judge = judge_of(self.syntax.language, commands)
        return None if judge is None else lambda text: judge(self._written(text))

    def _written(self, text: str) -> str:
        first = next((line for line in text.split("\n") if line.strip()), "")
        indented = self.syntax.language == "python" and self.syntax.unit == "body" and first[:1].isspace()
        return f"if 1:\n{text}" if indented else self.file.replace("%s", text)


_PLACES: Mapping[str, Mapping[str, str]] = {
    "python": {"expression": "(\n%s\n)", "body": "%s", "module": "%s"},
    "typescript": {
        "expression": "const a = (\n%s\n)\n",
        "body": "async function a() {\n%s\n}\n",
        "module": "%s",
    },
    "go": {"expression": "package a\n\nvar _ = %s\n", "body": "package a\n\nfunc a() {\n%s\n}\n", "module": "%s"},
    "rust": {"expression": "fn a() {\n    let _ = %s\n;\n}\n", "body": "fn a() {\n%s\n}\n", "module": "%s"},
    "java": {
        "expression": "class A {\n    Object a = %s\n;\n}\n",
        "body": "class A {\n    void a() {\n%s\n    }\n}\n",
        "module": "%s",
    },
}
_CALLED = {"typescript": "TypeScript"}
_FORMS: Mapping[str, Callable[[str], str]] = {
    "expression": lambda language: f"Write one {language} expression that {{}}.",
    "body": lambda language: f"Write the body of a {language} function that {{}}.",
    "module": lambda language: f"Write a {language} program that {{}}.",
}
UNITS: tuple[Unit, ...] = (
    *(
        Unit(Syntax(language, unit), _FORMS[unit](_CALLED.get(language, language.capitalize())), file)
        for language, places in _PLACES.items()
        for unit, file in places.items()
    ),
    Unit(Syntax("sql"), "Write an SQL query that {}."),
    Unit(Syntax("regex"), "Write a regular expression for JavaScript, for a text that {}."),
    Unit(Syntax("regex", dialect="python"), "Write a regular expression for Python, for a text that {}."),
)
TASKS = (
    "adds two numbers", "counts the vowels in a text", "reverses a list", "finds the largest of three numbers",
    "tests whether a text is a palindrome", "computes the mean of a list", "removes duplicates from a list",
    "converts Celsius to Fahrenheit", "finds primes below a number", "merges two tables", "flattens a nested list",
    "counts the words in a text", "sorts pairs by their second item", "computes a factorial",
    "tells whether a year is a leap year", "computes the nth Fibonacci number",
)  # fmt: skip
