"""The order of the layers, and which folder is the only home of a third-party package; read from the source."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ENGINE = ROOT / "engine"
TYPES = (
    "errors",
    "bundled",
    "fields",
    "plain_json",
    "pointer",
    "schema_source",
    "config",
    "constraint",
    "options",
    "request",
    "result",
    "interfaces",
)
FOLDERS = (
    *("patterns", "syntax", "sandbox", "schema", "judge", "checks", "grammar", "model"),
    *("decode", "trace", "serve", "client", "cli"),
)
"""From low to high; a folder may import itself, the type files, and folders to its left."""
BELOW_TYPES = frozenset({"syntax"})
"""Folders that type files may import."""
STRANGERS = frozenset({("grammar", "model"), ("model", "grammar"), ("model", "judge")})
"""Pairs that do not see each other although one stands left of the other."""
HOMES = {
    "xgrammar": ("grammar",),
    "transformers": ("model",),
    "bitsandbytes": ("model",),
    "accelerate": ("model",),
    "gguf": ("model",),
    "safetensors": ("model",),
    "tokenizers": ("model",),
    "triton": ("model/kernels",),
    "jsonschema_rs": ("schema",),
    "fastapi": ("serve",),
    "starlette": ("serve",),
    "uvicorn": ("serve",),
    "pydantic": ("serve", "schema_source.py"),
    "httpx": ("client",),
    "anthropic": ("client",),
    "modal": ("client",),
    "torch": ("grammar", "model", "decode"),
    "numpy": ("grammar", "model", "decode"),
}
FILES = sorted(ENGINE.rglob("*.py"))
MODULES = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in FILES}
MOST_FILES, MOST_LEVELS = 12, 9


def imported(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """(module, line) of each import, wherever it stands; those under TYPE_CHECKING never run and do not count."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute"
            yield node.module or "", node.lineno
            if node.module == "engine":
                yield from ((f"engine.{alias.name}", node.lineno) for alias in node.names)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        else:
            yield from imported(node)


def layer(path: Path) -> str:
    parts = path.relative_to(ENGINE).parts
    return parts[0] if len(parts) > 1 else path.stem


def wrong_way(importer: str, module: str) -> bool:
    """Whether a file of `importer` must not import `module`."""
    target = [*module.split("."), ""][1]
    if importer == "__init__" or target not in FOLDERS:
        return False
    if importer in TYPES or (importer, target) in STRANGERS:
        return target not in BELOW_TYPES
    return FOLDERS.index(target) > FOLDERS.index(importer)


def in_home(path: Path, package: str) -> bool:
    place = path.relative_to(ENGINE).as_posix()
    return any(place == home or place.startswith(home + "/") for home in HOMES[package])


def test_a_folder_imports_only_folders_below_it() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {module}"
        for path in FILES
        for module, line in imported(ast.parse(path.read_text()))
        if module.split(".")[0] == "engine" and wrong_way(layer(path), module)
    ]
    assert wrong == []


def test_every_folder_has_its_place_in_the_order() -> None:
    folders = {path.name for path in ENGINE.iterdir() if path.is_dir() and path.name not in ("__pycache__", "data")}
    assert folders == set(FOLDERS)
    assert {path.stem for path in ENGINE.glob("*.py")} == {"__init__", *TYPES}


def test_each_third_party_package_has_one_home() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {module}"
        for path in FILES
        for module, line in imported(ast.parse(path.read_text()))
        if (package := module.split(".")[0]) in HOMES and not in_home(path, package)
    ]
    assert wrong == []


@pytest.mark.parametrize(("importer", "module", "wrong"), [
    ("grammar", "engine.model.loader", True),
    ("model", "engine.grammar", True),
    ("schema", "engine.grammar.service", True),
    ("request", "engine.schema", True),
    ("constraint", "engine.syntax.asked.syntax", False),
    ("decode", "engine.grammar", False),
    ("cli", "engine.serve.server.run", False),
    ("schema", "engine.schema.verdicts.verdict", False),
    ("model", "engine.errors", False),
])  # fmt: skip
def test_the_rule_itself_tells_right_from_wrong(importer: str, module: str, wrong: bool) -> None:
    assert wrong_way(importer, module) is wrong


def test_imports_are_seen_wherever_they_stand() -> None:
    source = (
        "import a\nfrom b.c import d\nfrom engine import Engine\n"
        "def f():\n    import e\nif TYPE_CHECKING:\n    import g\ntry:\n    import h\nexcept ImportError:\n    pass\n"
    )
    assert [module for module, _ in imported(ast.parse(source))] == ["a", "b.c", "engine", "engine.Engine", "e", "h"]


@pytest.mark.parametrize(
    "module", ["engine", "engine.schema", "engine.client", "engine.cli.dispatch", "engine.trace.reader"]
)
def test_what_callers_import_brings_no_torch(module: str) -> None:
    heavy = ("torch", "xgrammar", "transformers", "numpy", "fastapi")
    code = f"import sys, {module}; print(*[name for name in {heavy!r} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert run.stdout.strip() == ""


def test_no_assert_changes_state() -> None:
    """Under `python -O` an assert vanishes, and with it whatever it called."""
    pure = {
        "len",
        "int",
        "isinstance",
        "all",
        "any",
        "set",
        "sorted",
        "issubclass",
        "hasattr",
        "callable",
        "min",
        "max",
        "sum",
    }
    wrong = []
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Assert):
                for call in (part for part in ast.walk(node.test) if isinstance(part, ast.Call)):
                    name = ast.unparse(call.func)
                    if name not in pure and not name.endswith((".max", ".min", ".is_contiguous")):
                        wrong.append(f"{path.relative_to(ROOT)}:{node.lineno} calls {name} inside assert")
    assert wrong == []


def test_functions_stay_small() -> None:
    """At most 40 lines (a kernel may pass it)."""
    wrong = []
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > 40 and "kernels" not in path.parts:
                    wrong.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name} has {length} lines")
    assert wrong == []


def test_every_module_says_what_it_is() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for path in FILES
        if path.stat().st_size and not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert silent == []


@cache
def arrows() -> dict[str, set[str]]:
    """By module, the modules of the engine that it names in an import: in functions and under TYPE_CHECKING too."""
    found: dict[str, set[str]] = {}
    for module, path in MODULES.items():
        names: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                inside = {f"{node.module}.{alias.name}" for alias in node.names} & MODULES.keys()
                names |= inside or {node.module or ""}
        found[module] = (names & MODULES.keys()) - {module, "engine"}
    return found


def rooms(part: str) -> dict[str, set[str]]:
    """By folder or file that stands directly in a part, those that it imports."""
    found: dict[str, set[str]] = {}
    for module, targets in arrows().items():
        if module.startswith(f"engine.{part}."):
            room = module.split(".")[2]
            inside = {target.split(".")[2] for target in targets if target.startswith(f"engine.{part}.")}
            found.setdefault(room, set()).update(inside - {room})
    return found


def levels(graph: dict[str, set[str]]) -> int:
    """Of imports, one upon the other. CycleError names a circle."""
    height: dict[str, int] = {}
    for node in TopologicalSorter(graph).static_order():
        height[node] = 1 + max((height[under] for under in graph.get(node, ())), default=0)
    return max(height.values(), default=0)


@pytest.mark.parametrize("part", FOLDERS)
def test_inside_a_part_imports_run_one_way_between_its_rooms(part: str) -> None:
    assert levels(rooms(part)) <= MOST_LEVELS


def test_no_files_import_each_other_in_a_circle_not_even_for_their_types() -> None:
    levels(arrows())


def test_no_folder_is_too_large_to_be_looked_over() -> None:
    files = [path for folder in ("engine", "bench", "tests") for path in (ROOT / folder).rglob("*.py")]
    counts = Counter(path.parent.relative_to(ROOT).parts for path in files if path.name != "__init__.py")
    assert {"/".join(folder): count for folder, count in counts.items() if count > MOST_FILES} == {}
