"""Every hostile schema and request through the real server: the expected typed outcome, in time, others unharmed.

The model is noise, so each document that comes out is also an adversarial one.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.config import Limits
from engine.schema.validator import Validator
from tests.decode.fakes import fake_engine, random_logits
from tests.hostile.requests import ALL as REQUESTS
from tests.hostile.requests import HostileRequest
from tests.hostile.schemas import ALL as SCHEMAS
from tests.hostile.schemas import HostileSchema
from tests.serve.fakes import Server

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("hostile")]
LIMITS = Limits(compile_s=1.5, compile_memory_bytes=1 << 30)
JSON = {"content-type": "application/json"}
GROWTH_BYTES = 400 << 20
"""What 160 schemas may leave behind: the rule cache and the memory cache, both bounded, and allocator slack."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    engine, _ = fake_engine(random_logits(5), tmp_path_factory.mktemp("hostile"), limits=LIMITS)
    engine.grammars.start()
    with Server(engine) as running:
        yield running
    engine.close()


@pytest.fixture(scope="module")
def memory(server: Server) -> int:
    return resident()


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def post(server: Server, body: bytes, timeout: float) -> tuple[int, dict, float]:
    start = time.monotonic()
    answer = server.client.post("/generate", content=body, headers=JSON, timeout=timeout)
    return answer.status_code, answer.json(), time.monotonic() - start


def outcome(code: int, answer: dict) -> str:
    return "ok" if code == 200 else str(answer["error"]["type"])


def test_the_corpora_are_as_large_as_they_claim() -> None:
    assert len({case.name for case in SCHEMAS}) == len(SCHEMAS) >= 120
    assert len({case.name for case in REQUESTS}) == len(REQUESTS) >= 60


@pytest.mark.parametrize("case", SCHEMAS, ids=lambda case: case.name)
def test_a_hostile_schema_gets_its_answer_in_time(server: Server, memory: int, case: HostileSchema) -> None:
    body = json.dumps({"prompt": "x", "schema": case.schema, "max_tokens": 64, "seed": 1, "temperature": 1.0}).encode()
    code, answer, seconds = post(server, body, 60)
    assert outcome(code, answer) in case.expect.split("|"), answer
    assert seconds < case.limit_s
    if code == 200:
        assert answer["valid"] is True
        assert Validator(case.schema).check(answer["raw_text"]).ok


@pytest.mark.parametrize("case", REQUESTS, ids=lambda case: case.name)
def test_a_hostile_request_gets_its_code_in_time(server: Server, case: HostileRequest) -> None:
    code, answer, seconds = post(server, case.body, 60)
    assert code in case.codes, answer
    assert seconds < case.limit_s
    if code != 200:
        assert answer["error"]["type"]
        assert answer["error"]["message"]
        assert "Traceback" not in json.dumps(answer)


def test_the_server_still_works_and_its_memory_came_back(server: Server, memory: int) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]}
    code, answer, _ = post(server, json.dumps({"prompt": "x", "schema": schema, "max_tokens": 30}).encode(), 30)
    assert code == 200
    assert answer["valid"] is True
    assert resident() - memory < GROWTH_BYTES


def test_heavy_schemas_do_not_hold_up_a_healthy_stream(server: Server) -> None:
    heavy = {"type": "string", "pattern": "^.{1,8000}$"}
    bomb = threading.Thread(target=post, args=(server, json.dumps({"prompt": "x", "schema": heavy}).encode(), 60))
    healthy = json.dumps({"prompt": "x", "schema": {"type": "boolean"}, "max_tokens": 8}).encode()
    alone = sorted(post(server, healthy, 30)[2] for _ in range(20))
    bomb.start()
    times = []
    while bomb.is_alive():
        times.append(post(server, healthy, 30)[2])
    beside = sorted(times)
    assert len(beside) >= 5
    assert beside[len(beside) // 2] < 5 * alone[len(alone) // 2] + 0.2
