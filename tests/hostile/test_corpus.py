"""Every hostile schema and request through the real server: the expected typed outcome, in time, others unharmed.

The model is noise, so each document that comes out is also an adversarial one.
"""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from engine.config import Limits
from engine.schema.reading.validator import Validator
from tests.hostile.growth import PIECE_S, SLACK_S, Pieces, measured
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
def memory(server: Server) -> int:
    return resident()


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def post(server: Server, body: bytes) -> tuple[int, dict]:
    answer = server.client.post("/generate", content=body, headers=JSON, timeout=300)
    return answer.status_code, answer.json()


def too_long(pieces: Pieces) -> dict[str, float]:
    """What has held others longer than it may, by CPU time, on a machine that may be slow."""
    most = {"decode turn": 10 * PIECE_S, "event loop": 10 * PIECE_S, "light load": 10 * PIECE_S}
    most |= {"grammar job": LIMITS.compile_s + SLACK_S, "judge job": LIMITS.judge_s + SLACK_S}
    return {kind: seconds for kind, seconds in pieces.longest.items() if seconds > most.get(kind, float("inf"))}


def outcome(code: int, answer: dict) -> str:
    return "ok" if code == 200 else str(answer["error"]["type"])


def test_the_corpora_are_as_large_as_they_claim() -> None:
    assert len({case.name for case in SCHEMAS}) == len(SCHEMAS) >= 120
    assert len({case.name for case in REQUESTS}) == len(REQUESTS) >= 60


@pytest.mark.parametrize("case", SCHEMAS, ids=lambda case: case.name)
def test_a_hostile_schema_gets_its_answer_in_time(server: Server, memory: int, case: HostileSchema) -> None:
    body = json.dumps({"prompt": "x", "schema": case.schema, "max_tokens": 64, "seed": 1, "temperature": 1.0}).encode()
    with measured() as pieces:
        code, answer = post(server, body)
    assert outcome(code, answer) in case.expect.split("|"), answer
    assert too_long(pieces) == {}
    if code == 200:
        assert answer["valid"] is True
        assert Validator(case.schema).check(answer["raw_text"]).ok


@pytest.mark.parametrize("case", REQUESTS, ids=lambda case: case.name)
def test_a_hostile_request_gets_its_code_in_time(server: Server, case: HostileRequest) -> None:
    with measured() as pieces:
        code, answer = post(server, case.body)
    assert code in case.codes, answer
    assert too_long(pieces) == {}
    if code != 200:
        assert answer["error"]["type"]
        assert answer["error"]["message"]
        assert "Traceback" not in json.dumps(answer)


def test_the_server_still_works_and_its_memory_came_back(server: Server, memory: int) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]}
    code, answer = post(server, json.dumps({"prompt": "x", "schema": schema, "max_tokens": 30}).encode())
    assert code == 200
    assert answer["valid"] is True
    assert resident() - memory < GROWTH_BYTES


def test_heavy_schemas_do_not_hold_up_a_healthy_stream(server: Server) -> None:
    """While one key's schema compiles, which takes seconds, healthy requests come and go."""
    heavy = {"type": "string", "pattern": "^.{1,8000}$"}
    bomb = threading.Thread(target=post, args=(server, json.dumps({"prompt": "x", "schema": heavy}).encode()))
    healthy = json.dumps({"prompt": "x", "schema": {"type": "boolean"}, "max_tokens": 8}).encode()
    with measured() as pieces:
        bomb.start()
        answered = 0
        while bomb.is_alive():
            assert post(server, healthy)[0] == 200
            answered += 1
        bomb.join()
    assert answered >= 5
    assert too_long(pieces) == {}
