"""Progress: redrawn in place on a terminal, one line a phase elsewhere, silent when asked."""

from __future__ import annotations

import io
import re

import pytest

from engine.cli import terminal
from engine.cli.terminal import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def play(progress: Progress) -> None:
    progress.phase("weights")
    progress.share(0.5, "layer 3")
    progress.phase("tokenizer")
    for _ in range(3):
        progress.token()
    progress.line("done")
    progress.close()


def test_a_log_file_gets_whole_lines() -> None:
    stream = io.StringIO()
    play(Progress(stream))
    lines = [re.sub(r"[\d.]+ s", "N s", line) for line in stream.getvalue().splitlines()]
    assert lines == ["weights: N s", "tokenizer: N s", "first token after N s", "done"]


def test_a_terminal_is_redrawn_and_left_clean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "REDRAW_S", -1.0)
    stream = Terminal()
    play(Progress(stream))
    drawn = stream.getvalue()
    assert "\r\x1b[Kweights ..." in drawn
    assert "weights 50 % layer 3" in drawn
    assert re.search(r"\r\x1b\[K3 tokens, [\d.]+ tokens/s", drawn)
    assert drawn.endswith("\r\x1b[K")


def test_the_first_token_has_no_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "REDRAW_S", -1.0)
    stream = Terminal()
    progress = Progress(stream)
    progress.token()
    assert "tokens/s" not in stream.getvalue()


def test_a_log_file_is_told_now_and_then_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "REPEAT_S", -1.0)
    stream = io.StringIO()
    play(Progress(stream))
    assert re.search(r"^3 tokens, [\d.]+ tokens/s$", stream.getvalue(), re.MULTILINE)


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()])
def test_nothing_comes_after_the_end(stream: io.StringIO) -> None:
    progress = Progress(stream)
    progress.close()
    told = stream.getvalue()
    play(progress)
    assert stream.getvalue() == told


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()])
def test_quiet_writes_nothing(stream: io.StringIO) -> None:
    play(Progress(stream, quiet=True))
    assert stream.getvalue() == ""
