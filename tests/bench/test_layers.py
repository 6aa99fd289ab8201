"""The order of the benches' folders: imports run one way, also hidden ones, and a folder has at most a dozen files."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BENCH = ROOT / "bench"
SHARED = ("harness", "datasets", "peers", "replay", "conformance")
"""From low to high; a folder may import itself and those to its left, a bench all of them."""
BORROWED = {("cold_start", "checkpoint_read")}
"""Benches that use a part of another one."""
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(BENCH.rglob("*.py"))
}


def imported(path: Path) -> set[str]:
    """The benches' own modules that a file imports anywhere: also in functions, also for types alone."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute"
            found |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found & FILES.keys()


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def wrong_way(importer: str, target: str) -> bool:
    """Whether a file of one room must not import a file of the other."""
    if importer == target or (importer, target) in BORROWED:
        return False
    if target not in SHARED:
        return True
    return importer in SHARED and SHARED.index(target) > SHARED.index(importer)


def test_imports_run_one_way_between_folders() -> None:
    wrong = [
        f"{module} imports {target}"
        for module, path in FILES.items()
        for target in imported(path)
        if room(target) and wrong_way(room(module), room(target))
    ]
    assert wrong == []


@pytest.mark.parametrize(("importer", "target", "wrong"), [
    ("harness", "datasets", True),
    ("conformance", "peers", False),
    ("peers", "conformance", True),
    ("suite", "conformance", False),
    ("suite", "maskbench", True),
    ("conformance", "maskbench", True),
    ("cold_start", "checkpoint_read", False),
    ("checkpoint_read", "cold_start", True),
])  # fmt: skip
def test_the_rule_itself_tells_right_from_wrong(importer: str, target: str, wrong: bool) -> None:
    assert wrong_way(importer, target) is wrong


def test_no_files_import_each_other_in_a_circle() -> None:
    graph = {module: imported(path) - {module} for module, path in FILES.items()}
    assert len(list(TopologicalSorter(graph).static_order())) == len(FILES)  # CycleError names the circle


def test_nobody_imports_the_command_of_a_bench() -> None:
    assert [module for module, path in FILES.items() if any("__main__" in name for name in imported(path))] == []


@pytest.mark.parametrize("top", ["bench", "tests/bench", "tests/kernels"])
def test_a_folder_has_at_most_a_dozen_files(top: str) -> None:
    folders = [path for path in (ROOT / top, *(ROOT / top).rglob("*")) if path.is_dir()]
    counts = {str(folder): len([path for path in folder.glob("*.py") if path.stem != "__init__"]) for folder in folders}
    assert {folder: count for folder, count in counts.items() if count > 12} == {}


def test_the_outline_names_every_folder() -> None:
    outline = (ROOT / "docs/architecture.md").read_text(encoding="utf-8").partition("### The benches")[2]
    folders = [path.name for path in BENCH.iterdir() if path.is_dir() and not path.name.startswith("__")]
    assert [name for name in folders if f"`{name}/`" not in outline] == []


def test_every_module_says_what_it_is() -> None:
    assert [module for module, path in FILES.items() if not ast.get_docstring(ast.parse(path.read_text()))] == []
