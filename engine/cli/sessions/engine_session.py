"""An engine opened for one command, with what it does shown on stderr."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TYPE_CHECKING

from engine.cli.terminal import Progress
from engine.config import EngineConfig
from engine.errors import missing_extra
from engine.request import Result

if TYPE_CHECKING:
    from engine.decode.engine import Engine


@contextmanager
def open_engine(config: EngineConfig, progress: Progress) -> Iterator[Engine]:
    """Load the model, each phase told. An error or Ctrl-C cancels what still runs instead of waiting for it."""
    from engine.model.files.source import resolve

    require_local()
    resolve(config.model, config.revision)  # a wrong name is told before seconds are spent on imports
    progress.phase("importing torch and transformers")
    from engine import Engine

    engine = Engine(config, progress=progress.phase)
    try:
        progress.end_phase()
        if engine.loaded.inventory:
            progress.line(engine.loaded.inventory)
        yield engine
    except BaseException:
        progress.close()
        engine.close(drain=False)
        raise
    engine.close()


def wait_for(future: Future[Result]) -> Result:
    """The result. Waits in slices, since a wait without end cannot be interrupted on every platform."""
    while True:
        try:
            return future.result(timeout=0.5)
        except TimeoutError:
            if future.done():
                raise


def require_local() -> None:
    """MissingExtra when a model cannot run here at all; costs no import."""
    for package in ("torch", "transformers", "xgrammar"):
        if importlib.util.find_spec(package) is None:
            raise missing_extra(package, "local")
