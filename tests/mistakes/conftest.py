"""One engine with the embedded model, and the folder of broken files to stand in."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from engine import Engine
from engine.cli.commands import batch, generate
from engine.cli.commands import trace_replay as replay
from engine.config import EngineConfig
from tests.cli.conftest import maskloop  # noqa: F401 - the fixture
from tests.mistakes import world


@pytest.fixture(scope="package")
def engine() -> Iterator[Engine]:
    with Engine("smollm2-135m", max_batch=2, max_sequence=2048) as made:
        yield made


@pytest.fixture(scope="package")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files, once for all commands: what is wrong is refused before anything is written."""
    made = tmp_path_factory.mktemp("world")
    world.make(made)
    return made


@pytest.fixture
def loaded(engine: Engine, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands run in the folder, and find this engine where the options name no other model."""
    opened = generate.open_engine

    @contextmanager
    def found(config: EngineConfig, progress: Any) -> Iterator[Engine]:
        if config.model != engine.config.model:
            with opened(config, progress) as other:
                yield other
        else:
            yield engine

    for command in (batch, generate, replay):
        monkeypatch.setattr(command, "open_engine", found)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert os.environ.get("MASKLOOP_API_KEYS") is None
