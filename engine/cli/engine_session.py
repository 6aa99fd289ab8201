"""An engine opened for one command, with what it does shown on stderr.

Knows how to open, what is missing when it cannot be opened, and how progress looks. Knows no command.
"""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from engine.config import EngineConfig
from engine.errors import missing_extra
from engine.request import Result

if TYPE_CHECKING:
    from engine.decode.engine import Engine

REDRAW_S = 0.2
REPEAT_S = 30.0
"""Between two lines about tokens where nothing is redrawn: who waits for minutes sees that it goes on."""


@contextmanager
def open_engine(config: EngineConfig, progress: Progress) -> Iterator[Engine]:
    """Load the model, each phase told. An error or Ctrl-C cancels what still runs instead of waiting for it."""
    from engine.model.source import resolve

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


class Progress:
    """Phases and token counts on a stream: redrawn in place on a terminal, a line now and then elsewhere."""

    def __init__(self, stream: TextIO | None = None, *, quiet: bool = False) -> None:
        self._stream = stream or sys.stderr
        self._live = self._stream.isatty()
        self._quiet = quiet
        self._started = time.perf_counter()
        self._phase: str | None = None
        self._phase_began = self._started
        self._drawn = 0.0
        self._tokens = 0
        self.first_token_s: float | None = None
        self._decode_began = 0.0

    def phase(self, name: str) -> None:
        """A new phase begins; the one before is reported with its seconds."""
        self.end_phase()
        self._phase, self._phase_began = name, time.perf_counter()
        if self._live:
            self._show(f"{name} ...")

    def end_phase(self) -> None:
        """Report the running phase, if there is one."""
        if self._phase is not None:
            seconds = time.perf_counter() - self._phase_began
            self.line(f"{self._phase}: {seconds:.2f} s")
            self._phase = None

    def token(self, count: int = 1) -> None:
        """`count` more tokens have come."""
        now = time.perf_counter()
        self._tokens += count
        if self.first_token_s is None:
            self.end_phase()
            self.first_token_s, self._decode_began, self._drawn = now - self._started, now, now
            self.line(f"first token after {self.first_token_s:.2f} s")
        elif now - self._drawn > (REDRAW_S if self._live else REPEAT_S):
            self._drawn = now
            rate = (self._tokens - 1) / max(now - self._decode_began, 1e-9)  # the first one came before
            self._show(f"{self._tokens} tokens, {rate:.1f} tokens/s")

    def share(self, done: float, what: str) -> None:
        """How much of the running phase is done, 0 to 1; shown on a terminal only."""
        now = time.perf_counter()
        if self._live and now - self._drawn > REDRAW_S:
            self._drawn = now
            self._show(f"{self._phase} {100 * done:.0f} % {what}")

    def line(self, text: str) -> None:
        """A line that stays."""
        if not self._quiet:
            self._erase()
            print(text, file=self._stream, flush=True)

    def close(self) -> None:
        """Leave the terminal clean, whatever is still told afterwards."""
        if not self._quiet:
            self._erase()
        self._quiet = True

    def _show(self, text: str) -> None:
        """Text that the next one replaces on a terminal."""
        if not self._live:
            self.line(text)
        elif not self._quiet:
            print(f"\r\x1b[K{text}", end="", file=self._stream, flush=True)

    def _erase(self) -> None:
        if self._live:
            print("\r\x1b[K", end="", file=self._stream, flush=True)
