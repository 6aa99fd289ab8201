"""What a person at the terminal sees: exit codes, one line an error, progress on stderr."""

from __future__ import annotations

import sys
import time
from typing import TextIO

from engine.errors import EngineError, MissingExtra, ModelError, RequestError

OK, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130
REDRAW_S = 0.2
REPEAT_S = 30.0
"""Between two lines about tokens where nothing is redrawn: who waits for minutes sees that it goes on."""


def exit_code(error: EngineError) -> int:
    """2 for what the user can mend in the request, the model's name or the installation; 1 for what broke here."""
    return BAD_INPUT if isinstance(error, RequestError | ModelError | MissingExtra) else FAILED


def one_line(error: EngineError) -> str:
    """The message on one line, with the JSON pointer when it does not name it already."""
    text = " ".join(error.message.split())
    return f"{text} (at {error.pointer})" if error.pointer and error.pointer not in text else text


def say(line: str) -> None:
    """One line on stderr."""
    print(line, file=sys.stderr, flush=True)


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
