"""The deployed class as callers meet it: one container with the real engine, by function calls and over HTTP."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import modal
import pytest

from engine.config import Limits
from engine.serve.app import create_app
from engine.serve.modal.deployment import Deployment
from engine.serve.service.engine_slot import EngineSlot
from engine.serve.service.service import Service
from tests.modal.control_plane.plane import PATIENCE_S, ROOT, Plane

SCHEMA = {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]}
ASK = {"prompt": "hello", "schema": SCHEMA, "max_tokens": 60}
MODEL = "/weights/tiny"
LONG = {"temperature": 0.0, "max_tokens": 7000}
"""Greedy text of the tiny model, which does not end by itself: tens of seconds."""
CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 60}
ROUTES: dict[tuple[str, str], dict[str, Any] | None] = {
    ("POST", "/"): ASK,
    ("POST", "/generate"): ASK,
    ("POST", "/generate_ir"): ASK,
    ("POST", "/check"): {"schema": SCHEMA},
    ("POST", "/v1/chat/completions"): CHAT,
    ("POST", "/v1/completions"): {"model": MODEL, "prompt": "hello", "max_tokens": 5},
    ("POST", "/v1/responses"): {"model": MODEL, "input": "hello", "max_output_tokens": 20},
    ("GET", "/v1/models"): None,
    ("GET", "/v1/models/{name}"): None,
    ("GET", "/"): None,
    ("GET", "/health"): None,
    ("GET", "/health_ir"): None,
    ("GET", "/ready"): None,
    ("GET", "/warmup"): None,
    ("GET", "/metrics"): None,
}
"""Every route of the app, with a body that it answers 200."""


@pytest.fixture
def http(plane: Plane, served: Any) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=plane.function("maskloop", "Engine.*").web_urls["web"], timeout=PATIENCE_S) as client:
        yield client


def container(plane: Plane) -> Any:
    (only,) = plane.function("maskloop", "Engine.*").containers
    return only


def test_generate_is_the_lift_answer_in_plain_types(served: Any) -> None:
    answer = served.generate.remote("hello", SCHEMA, 60, 0.3, 0.95, seed=7)
    assert (answer["status"], answer["valid"], answer["seed"]) == ("complete", True, 7)
    assert set(answer["ir_json"]) == {"a"}
    assert json.loads(answer["raw_text"]) == answer["ir_json"] == answer["text"]
    assert json.loads(json.dumps(answer)) == answer
    assert "error" not in answer


def test_a_seed_decides_and_every_option_of_the_body_is_an_argument(served: Any) -> None:
    first, second = (served.generate.remote("hello", regex="[a-z]{12}", seed=3, n=2) for _ in range(2))
    assert [each["text"] for each in first["samples"]] == [each["text"] for each in second["samples"]]


def test_generate_ir_takes_one_dict_and_makes_an_ir(served: Any) -> None:
    answer = served.generate_ir.remote({"prompt": "add two integers", "max_tokens": 600})
    assert answer["status"] in ("complete", "closed")
    assert "signature" in answer["ir_json"]


def test_a_bad_item_of_a_batch_fails_in_its_place(served: Any) -> None:
    bad = [{"prompt": "x", "nonsense": 1}, {**ASK, "schema": False}, "x", None, [ASK]]
    answers = served.generate_batch.remote([ASK, *bad, ASK])
    assert [each["status"] for each in answers] == ["complete", *["error"] * len(bad), "complete"]
    params = [each.get("error_detail", {}).get("param") for each in answers]
    assert params == [None, "nonsense", "schema", None, None, None, None]
    assert not any({"text", "ir_json"} & set(each) for each in answers[1:-1])


def test_what_is_no_request_is_a_failure_and_no_exception(served: Any) -> None:
    failures = [served.generate_ir.remote("x"), *served.stream.remote_gen("x"), *served.generate_batch.remote(None)]
    assert [each["error_detail"]["type"] for each in failures] == ["Malformed"] * 3
    assert served.generate.remote(7)["error_detail"]["param"] == "prompt"


def test_a_stream_gives_pieces_and_then_the_answer(served: Any) -> None:
    *pieces, last = served.stream.remote_gen({"prompt": "hello", "regex": "[a-z]{40}"})
    assert len(pieces) > 1
    assert "".join(pieces) == last["text"]
    (failure,) = served.stream.remote_gen({"nonsense": 1})
    assert failure["error_detail"]["param"] == "nonsense"


def test_check_info_and_warmup_speak_of_the_loaded_engine(served: Any) -> None:
    assert served.check.remote(SCHEMA, "spec")["supported"] is True
    info = served.info.remote()
    assert (info["state"], info["model"], info["device"]) == ("ready", MODEL, "cpu")
    assert served.warmup.remote()["ready_for_requests"] is True


def test_the_batch_command_sends_a_file_to_what_is_deployed(plane: Plane, served: Any, tmp_path: Path) -> None:
    asked, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    asked.write_text("\n".join(json.dumps(each) for each in ({"id": "a", **ASK}, {"id": "b", **ASK, "schema": False})))
    command = ["batch", str(asked), "--out", str(out), "--on", "modal"]
    done = subprocess.run(
        [sys.executable, "-c", "import sys; from engine.cli import main; sys.exit(main())", *command],
        cwd=ROOT, env=plane.client_env({}), capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    told = {each["id"]: each for each in map(json.loads, out.read_text().splitlines())}
    assert (done.returncode, told["a"]["status"], told["b"]["status"]) == (1, "complete", "error"), done.stderr
    assert "1 of 2 failed: b" in done.stderr


def test_the_table_here_names_every_route_of_the_app() -> None:
    app = create_app(Service(EngineSlot(lambda: pytest.fail("never loaded"))))
    found = {(method.upper(), path) for path, methods in app.openapi()["paths"].items() for method in methods}
    assert found == set(ROUTES)


@pytest.mark.parametrize(("method", "path"), list(ROUTES), ids=lambda part: str(part).strip("/") or "root")
def test_a_route_answers_over_http(http: httpx.Client, method: str, path: str) -> None:
    answer = http.request(method, path.replace("{name}", MODEL), json=ROUTES[method, path])
    assert answer.status_code == 200, answer.text


def test_a_refusal_has_its_code_and_its_field_over_http(http: httpx.Client) -> None:
    answer = http.post("/generate", json={**ASK, "nonsense": 1})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "nonsense")
    assert http.get("/nowhere").status_code == 404


def test_events_come_one_by_one_and_end_with_done(http: httpx.Client) -> None:
    lines = []
    with http.stream("POST", "/v1/chat/completions", json={**CHAT, "stream": True, "temperature": 0.0}) as answer:
        lines = [line for line in answer.iter_lines() if line]
    assert lines[-1] == "data: [DONE]"
    assert len(lines) > 10


def test_what_a_client_walks_away_from_stops(http: httpx.Client) -> None:
    with http.stream("POST", "/v1/chat/completions", json={**CHAT, **LONG, "stream": True}) as answer:
        next(answer.iter_lines())
    wait_idle(http)


def wait_idle(http: httpx.Client, within_s: float = 10.0) -> None:
    until = time.monotonic() + within_s
    while http.get("/health").json()["in_flight"]:
        assert time.monotonic() < until, "a request that nobody waits for is still running"
        time.sleep(0.05)


def test_a_cancelled_call_frees_its_row_and_leaves_its_neighbours_alone(
    plane: Plane, served: Any, http: httpx.Client
) -> None:
    """With every row taken, the next call is answered in the row of a cancelled one while the others still decode."""
    alone = served.generate.remote("hello", temperature=0.0, max_tokens=200)
    doomed, *neighbours = (served.generate.spawn("hello", **LONG) for _ in range(Deployment().max_batch))
    try:
        plane.wait_until(lambda: http.get("/health").json()["in_flight"] == Deployment().max_batch)
        doomed.cancel()
        with pytest.raises(modal.exception.RemoteError):
            doomed.get(timeout=PATIENCE_S)
        assert served.generate.remote("hello", temperature=0.0, max_tokens=200)["text"] == alone["text"]
        assert not any(plane.calls[each.object_id].outputs for each in neighbours)
    finally:
        plane.cancel("maskloop")
    wait_idle(http)
    plane.wait_until(lambda: not container(plane).running)


def test_what_is_cancelled_in_whatever_way_it_came_leaves_nothing_running(
    plane: Plane, served: Any, http: httpx.Client
) -> None:
    """Modal cancels the inputs of a batch, a stream and HTTP requests as it does a call's: through the heartbeat."""
    before = container(plane)
    url = str(http.base_url)
    chat = {**CHAT, **LONG, "stream": True}
    work = [
        lambda: served.generate_batch.remote([{"prompt": "hello", **LONG}] * 2),
        lambda: list(served.stream.remote_gen({"prompt": "hello", **LONG})),
        lambda: httpx.post(f"{url}/generate", json={"prompt": "hello", **LONG}, timeout=PATIENCE_S),
        lambda: httpx.post(f"{url}/v1/chat/completions", json=chat, timeout=PATIENCE_S),
    ]
    with ThreadPoolExecutor(len(work)) as threads:
        started = [threads.submit(call) for call in work]
        plane.wait_until(lambda: http.get("/health").json()["in_flight"] == 5)
        plane.cancel("maskloop")
        failures = [each.exception(timeout=PATIENCE_S) for each in started]
    wait_idle(http)
    plane.wait_until(lambda: not before.running)
    assert isinstance(failures[0], modal.exception.RemoteError)
    assert container(plane) is before
    assert served.generate.remote(**ASK)["status"] == "complete"


def test_the_engines_queue_refuses_and_health_answers_meanwhile(plane: Plane, served: Any, http: httpx.Client) -> None:
    """As many calls at once as rows, places in the queue and twenty more: those twenty get 429, from the engine."""
    room, beyond = Deployment().max_batch + Limits().queue, 20
    calls = [served.generate.spawn("hello", **LONG) for _ in range(room + beyond)]
    try:
        refused = [plane.calls[each.object_id] for each in calls]
        plane.wait_until(lambda: sum(bool(each.outputs) for each in refused) >= beyond)
        took = []
        for path in ("/health", "/ready", "/metrics") * 5:
            start = time.perf_counter()
            assert http.get(path).status_code == 200
            took.append(time.perf_counter() - start)
        answers = [each.get(timeout=1) for each in calls if plane.calls[each.object_id].outputs]
        assert [each["error_detail"]["status_code"] for each in answers] == [429] * beyond
        assert http.get("/health").json()["in_flight"] == room
        assert len(plane.function("maskloop", "Engine.*").containers) == 1
        assert max(took) <= 0.5, took
    finally:
        plane.cancel("maskloop")
    wait_idle(http)
    assert served.generate.remote(**ASK)["status"] == "complete"
