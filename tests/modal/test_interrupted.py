"""SIGINT to a container with the engine: documents are closed, streams end with an error, the rest runs again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.modal.conftest import Deploy
from tests.modal.control_plane.containers import Container
from tests.modal.control_plane.plane import PATIENCE_S, Plane

LONG = {"temperature": 0.0, "max_tokens": 7000}
DOCUMENT = {"type": "string"}
SHORT = {"temperature": 0.0, "max_tokens": 700}
Outcomes = dict[str, Future[Any]]


def read_stream(url: str, model: str) -> list[str]:
    body = {"model": model, "prompt": "hello", "stream": True, **LONG}
    with httpx.stream("POST", f"{url}/v1/completions", json=body, timeout=PATIENCE_S) as response:
        return [line.removeprefix("data: ") for line in response.iter_lines() if line]


@pytest.fixture(scope="module")
def interrupted(plane: Plane, deploy: Deploy) -> Iterator[tuple[Container, Outcomes]]:
    """A document, free text and a stream, all decoding when the signal comes."""
    engine = deploy("interrupted", MASKLOOP_MAX_CONTAINERS="1")
    engine.generate.remote("hello", DOCUMENT, max_tokens=20)  # its grammar is there when the others begin
    function = plane.function("interrupted", "Engine.*")
    (container,) = function.containers
    url = function.web_urls["web"]
    model = httpx.get(f"{url}/v1/models", timeout=PATIENCE_S).json()["data"][0]["id"]
    work = {
        "document": lambda: engine.generate.remote("hello", DOCUMENT, **LONG),
        "free text": lambda: engine.generate.remote("hello", **SHORT),
        "stream": lambda: read_stream(url, model),
        "request": lambda: httpx.post(f"{url}/generate", json={"prompt": "x", **SHORT}, timeout=PATIENCE_S),
    }
    with ThreadPoolExecutor(len(work)) as threads:
        started = {name: threads.submit(call) for name, call in work.items()}
        plane.wait_until(lambda: len(container.running) == len(work))
        plane.wait_until(lambda: any(len(one.call.data_out) > 3 for one in container.running.values()))
        container.interrupt()
        plane.wait_until(lambda: container.exit_code is not None)
        yield container, started


def events(container: Container) -> list[dict[str, Any]]:
    return [json.loads(line) for line in container.log.splitlines() if line.startswith('{"')]


def test_a_document_is_closed_by_its_grammar_and_sent(interrupted: Any) -> None:
    answer = interrupted[1]["document"].result()
    assert (answer["status"], answer["valid"]) == ("closed", True)
    assert 0 < answer["tokens_used"] < 7000


def test_a_stream_ends_with_an_error_event(interrupted: Any) -> None:
    *pieces, last = interrupted[1]["stream"].result()
    assert "choices" in json.loads(pieces[0])
    assert json.loads(last)["error"]["type"] == "NotReady"


def test_what_has_no_answer_runs_again_in_another_container(interrupted: Any) -> None:
    again = interrupted[1]["free text"].result()
    assert (again["status"], again["tokens_used"]) == ("length", 700)
    assert interrupted[1]["request"].result().json()["tokens_used"] == 700


def test_what_runs_again_is_logged_as_preempted_and_only_what_was_answered_costs(interrupted: Any) -> None:
    told = events(interrupted[0])
    kinds = [event["event"] for event in told]
    assert kinds.count("interrupted") == 1
    assert kinds.count("preempted") == 3
    assert [event["status"] for event in told if event["event"] == "request"][1:] == ["closed"]
    assert not any("gpu_seconds" in event for event in told if event["event"] == "preempted")


def test_the_exit_hooks_have_run_and_the_process_ends_well(interrupted: Any) -> None:
    container, _ = interrupted
    assert container.exit_code == 0, container.log
    assert events(container)[-1]["event"] == "stopped"
    assert "Traceback" not in container.log, container.log
