"""One engine and one server for each module here: LIMITS are its limits, SETTINGS those of the server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from engine import Engine, Limits
from engine.serve.settings import ServeSettings
from tests.decode.fakes import fake_engine, random_logits
from tests.serve.fakes import Server


@pytest.fixture(scope="module")
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    limits = getattr(request.module, "LIMITS", Limits())
    made, _ = fake_engine(random_logits(5), tmp_path_factory.mktemp("cache"), limits=limits)
    made.grammars.start()
    yield made
    made.close()


@pytest.fixture(scope="module")
def server(request: pytest.FixtureRequest, engine: Engine) -> Iterator[Server]:
    with Server(engine, getattr(request.module, "SETTINGS", ServeSettings())) as running:
        yield running
