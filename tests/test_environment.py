"""docs/environment.md lists the environment variables that the code reads, no more and no fewer."""

from __future__ import annotations

import ast
import re
from dataclasses import fields
from pathlib import Path

from engine.serve.modal.deployment import Deployment, variable_of

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "environment.md").read_text()
READ_BY_OTHERS = {
    "HF_HOME",
    "HF_HUB_OFFLINE",
    "MODAL_TOKEN_ID",
    "MODAL_TOKEN_SECRET",
    "ANTHROPIC_API_KEY",
    "TRITON_INTERPRET",
}
"""By the packages that we use."""
OURS_TO_SET = {
    "OMP_NUM_THREADS",
    "PYTHONPATH",
    "TRITON_CACHE_DIR",
    "HF_HOME",
    "HF_XET_CACHE",
    "HF_XET_HIGH_PERFORMANCE",
}
"""Given to child processes and containers, asked of nobody."""
VARIABLE = re.compile(
    r"(MASKLOOP|MODAL|HF|XDG|TRITON|OMP|PYTHON|ANTHROPIC|CUDA|TORCH)[A-Z_]*_[A-Z_]*[A-Z]|PYTHON[A-Z]+"
)


def listed(page: str) -> set[str]:
    rows = re.findall(r"^\| (`.*?) \|", page, re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`([A-Z_]+)`", row)}


def in_code() -> set[str]:
    """Texts of the source that are such a name and nothing else, and the fields of a deployment."""
    named = {variable_of(field.name) for field in fields(Deployment)}
    for file in [*(ROOT / "engine").rglob("*.py"), *(ROOT / "bench").rglob("*.py"), ROOT / "modal_app.py"]:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and VARIABLE.fullmatch(node.value):
                named.add(node.value)
    return named


def test_the_page_and_the_code_name_the_same_variables() -> None:
    assert listed(PAGE) - READ_BY_OTHERS == in_code() - OURS_TO_SET - READ_BY_OTHERS


def test_the_defaults_of_a_deployment_are_those_of_the_code() -> None:
    told = dict(re.findall(r"^\| `(MASKLOOP_[A-Z_]+)` \| `?(.*?)`? \|", PAGE.partition("## A Modal")[2], re.MULTILINE))
    made = Deployment()
    for field in fields(Deployment):
        default = getattr(made, field.name)
        if isinstance(default, int) or field.name in (
            "auth",
            "gpu",
            "quantization",
            "snapshot",
            "modal_app",
            "label_prefix",
        ):
            assert told[variable_of(field.name)] == str(default), field.name
