"""How much memory the rule cache may take is a share of what there is, in a container of what it may use."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.grammar import compiler
from engine.grammar.machine import memory_bytes


def test_a_container_with_less_memory_than_the_machine_counts(tmp_path: Path) -> None:
    machine = memory_bytes(())
    limits = {"smaller": str(machine // 4), "none": "max", "larger": str(machine * 4), "absent": None}
    found = {}
    for name, text in limits.items():
        if text is not None:
            (tmp_path / name).write_text(text + "\n")
        found[name] = memory_bytes((tmp_path / name,))
    assert found == {"smaller": machine // 4, "none": machine, "larger": machine, "absent": machine}


@pytest.mark.parametrize(("memory", "share"), [(1 << 30, 512 << 20), (24 << 30, 4 << 30), (512 << 30, 4608 << 20)])
def test_the_rule_cache_takes_a_sixth_within_bounds(memory: int, share: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler, "memory_bytes", lambda: memory)
    assert compiler.rule_cache_bytes() == share
