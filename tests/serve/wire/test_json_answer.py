"""Large answers: the same text as small ones, written where nobody waits for it, never in one long call."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import hypothesis.strategies as st
import pytest
from hypothesis import given

from engine.request import Request, Result, Usage
from engine.serve.settings import ServeSettings
from engine.serve.wire import json_answer
from engine.serve.wire.gate import MOST_AT_ONCE, _parts
from engine.serve.wire.json_answer import MOST_ENTRIES, entries, json_bytes
from tests.hostile.growth import PIECE_S, measured
from tests.serve.fakes import FakeEngine, Server, document

TOKEN = {"token_id": 1, "token": "é", "raw": -2.0, "constrained": -0.5}
TOP = [{**TOKEN, "token": f"{index:x>30}"} for index in range(20)]
TOLD = tuple({**TOKEN, "top": TOP} for _ in range(250))
"""What one sample tells of its tokens."""
SAMPLES = 12
FIRST = """
import sys
from tests.serve.fakes import FakeEngine, Server

with Server(FakeEngine()) as server:
    server.get("/health")
    known = set(sys.modules)
    assert server.post("/v1/responses", {"model": "fake", "input": "x", "stream": True}).status_code == 200
    print(sorted(name for name in set(sys.modules) - known if "encodings" not in name))
"""
ASKED = {"model": "m", "n": SAMPLES, "max_tokens": 300}
CHAT = {**ASKED, "messages": [{"role": "user", "content": "x"}], "logprobs": True, "top_logprobs": 20}
ONE = {"model": "m", "input": "x", "include": ["message.output_text.logprobs"], "top_logprobs": 20}
REQUESTS: list[tuple[str, dict[str, Any]]] = [
    ("/generate", {"prompt": "x", "n": SAMPLES, "logprobs": 20}),
    ("/v1/chat/completions", CHAT),
    ("/v1/chat/completions", {**CHAT, "stream": True}),
    ("/v1/completions", {**ASKED, "prompt": "x", "logprobs": 20}),
    ("/v1/completions", {**ASKED, "prompt": "x", "logprobs": 20, "stream": True}),
    ("/v1/responses", ONE),
    ("/v1/responses", {**ONE, "stream": True}),
]


def told(request: Request) -> Result:
    """A result with all its log-probabilities; where one sample is asked for, as many as all the others have."""
    count = request.sampling.n
    one = document(request, text="word " * 50, logprobs=TOLD * (SAMPLES if count == 1 else 1))
    if count == 1:
        return one
    return replace(one, samples=(one,) * count, usage=Usage(prompt_tokens=7, completion_tokens=250 * count))


class ManyVerdicts(FakeEngine):
    """Its checks have thousands of verdicts."""

    def submit_check(self, constraint: Any, *, owner: str | None = None) -> Any:
        checking = super().submit_check(constraint, owner=owner)
        verdict = {"pointer": "/properties/" + "a" * 60, "keyword": "type", "verdict": "enforced", "reason": "so it is"}
        report = {**checking.report(), "verdicts": [dict(verdict) for _ in range(20_000)]}
        checking.report = lambda: report  # type: ignore[method-assign]
        return checking


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
                    | st.text(st.characters(exclude_categories=["Cs"])),
                    lambda part: st.lists(part) | st.dictionaries(st.text(max_size=3), part)))  # fmt: skip
def test_a_large_answer_is_the_same_text_as_a_small_one(value: Any) -> None:
    assert json_bytes(value, MOST_ENTRIES + 1) == json_bytes(value, 0)
    assert json.loads(json_bytes(value, MOST_ENTRIES + 1)) == value


@pytest.mark.parametrize("size", [0, MOST_ENTRIES + 1])
def test_what_json_cannot_say_is_no_answer_whatever_its_size(size: int) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        json_bytes({"a": [float("nan")]}, size)


@pytest.mark.parametrize(("path", "body"), REQUESTS, ids=lambda part: part if isinstance(part, str) else "")
def test_a_large_answer_holds_the_event_loop_no_longer_than_a_piece(
    serving: Callable[..., Server], monkeypatch: pytest.MonkeyPatch, path: str, body: dict[str, Any]
) -> None:
    longest, encode = 0, json_answer._text

    def watched(value: Any) -> str:
        nonlocal longest
        text = encode(value)
        longest = max(longest, len(text))
        return text

    monkeypatch.setattr(json_answer, "_text", watched)
    server = serving(FakeEngine(told), ServeSettings(served_model_name="m"))
    server.get("/health")

    def longest_turn() -> float:
        with measured() as pieces:
            answer = httpx.post(server.url + path, json=body, timeout=60)
        assert answer.status_code == 200
        assert len(answer.content) > 400_000
        return pieces.longest["event loop"]

    assert any(longest_turn() < PIECE_S for _ in range(3)), "a machine may hold a turn up, but not each time"
    assert longest < 20_000, "one call of the encoder keeps the interpreter's lock for all of it"


@pytest.mark.parametrize("more", [False, True])
@pytest.mark.parametrize("size", [0, MOST_AT_ONCE, MOST_AT_ONCE + 1, 3 * MOST_AT_ONCE])
def test_a_large_body_is_sent_in_parts_of_which_the_last_ends_it_if_it_did(size: int, more: bool) -> None:
    whole = random.Random(size).randbytes(size)
    sent = [*_parts({"type": "http.response.body", "body": whole, "more_body": more})]
    assert b"".join(part["body"] for part in sent) == whole
    assert max(len(part["body"]) for part in sent) <= MOST_AT_ONCE
    assert [part["more_body"] for part in sent] == [True] * (len(sent) - 1) + [more]


def test_the_first_stream_of_a_process_waits_for_no_import() -> None:
    root = Path(__file__).resolve().parents[3]
    run = subprocess.run([sys.executable, "-c", FIRST], cwd=root, capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"


def test_the_verdicts_of_a_check_are_written_off_the_loop(serving: Callable[..., Server]) -> None:
    server = serving(ManyVerdicts())
    with measured() as pieces:
        answer = server.post("/check", {"schema": {}})
    assert len(answer.json()["verdicts"]) == 20_000
    assert pieces.longest["event loop"] < PIECE_S


def test_log_probabilities_count_towards_the_size_of_a_result() -> None:
    request = Request(prompt="x")
    assert entries(document(request)) == 5
    assert entries(document(request, logprobs=TOLD)) == 5 + 250 * 22
