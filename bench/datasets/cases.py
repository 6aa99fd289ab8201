"""Schemas with labelled instances, read from MaskBench-format files or the official JSON Schema suite.

Knows the two file forms (JSON lines, plain or .xz; folders of them or of single .json cases). Knows no engine.
"""

from __future__ import annotations

import json
import lzma
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

OWN_CASES = Path(__file__).resolve().parents[1] / "data" / "maskbench"
"""A small data set of our own, for quick runs."""
SUFFIXES = (".jsonl", ".jsonl.xz", ".json", ".json.xz")


def compact(value: Any) -> str:
    """The compact serialisation, keys in the value's order."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def json_lines(path: Path) -> list[Any]:
    """The values of a file of JSON lines, plain or .xz."""
    return [json.loads(line) for line in text_of(path).split("\n") if line.strip()]


def text_of(path: Path) -> str:
    """A file's text, unpacked where it ends in .xz."""
    content = path.read_bytes()
    return (lzma.decompress(content) if path.suffix == ".xz" else content).decode("utf-8")


@dataclass(frozen=True, slots=True)
class Instance:
    """One document and whether the schema's author says it is valid."""

    data: Any
    valid: bool

    @property
    def text(self) -> str:
        return compact(self.data)


@dataclass(frozen=True, slots=True)
class Case:
    """A schema and its instances. `group` is the file of the official suite, else ''."""

    name: str
    schema: Any
    tests: tuple[Instance, ...]
    group: str = ""


def data_files(path: Path) -> list[Path]:
    """The files of a data set: the path itself, or all case files below a folder, sorted."""
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.rglob("*") if file.name.endswith(SUFFIXES))


def load_cases(path: Path) -> list[Case]:
    """All cases. ValueError names the file and line that is not one."""
    return _distinct(case for file in data_files(path) for case in _read(file))


def _distinct(cases: Iterable[Case]) -> list[Case]:
    """Cases with unique names: a repeated one gets its count."""
    seen: Counter[str] = Counter()
    renamed = []
    for case in cases:
        seen[case.name] += 1
        again = seen[case.name]
        renamed.append(case if again == 1 else replace(case, name=f"{case.name} ({again})"))
    return renamed


def _read(file: Path) -> Iterator[Case]:
    if file.name.endswith((".json", ".json.xz")):
        yield _case(json.loads(text_of(file)), str(file), file.name.split(".json")[0])
        return
    for number, line in enumerate(text_of(file).split("\n"), 1):
        if line.strip():
            yield _case(json.loads(line), f"{file}:{number}", f"{file.name}:{number}")


def _case(line: Any, where: str, default_name: str) -> Case:
    if not isinstance(line, dict) or "schema" not in line or "tests" not in line:
        raise ValueError(f"{where}: a case needs the fields schema and tests")
    tests = tuple(Instance(test["data"], test["valid"]) for test in line["tests"])
    if "draft" not in line:
        return Case(str(line.get("name", default_name)), line["schema"], tests)
    group = f"{line['draft']}/{line['file']}"
    return Case(f"{group}: {line['description']}", _with_draft(line["schema"], line["draft"]), tests, group)


def _with_draft(schema: Any, draft: str) -> Any:
    """The official suite leaves `$schema` out of many draft-7 schemas: the folder says the draft."""
    if draft != "draft7" or not isinstance(schema, dict) or "$schema" in schema:
        return schema
    return {"$schema": "http://json-schema.org/draft-07/schema#", **schema}
