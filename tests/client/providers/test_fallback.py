"""The fallback against a local stand-in of the Anthropic API: when it answers, that it says so, when it does not."""

from __future__ import annotations

import asyncio
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx
import pytest

from engine.client import FallbackProvider, ModalProvider, Refused
from engine.client.providers import http as provider_module
from engine.client.providers.problems import NobodyAnswered

pytestmark = pytest.mark.anyio
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
MODEL = "claude-stand-in"


class StandIn:
    """Answers /v1/messages with one forced tool call, or as told."""

    def __init__(self):
        self.asked, self.document, self.code = [], {"n": 1}, 200
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                outer.asked.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
                block = {"type": "tool_use", "id": "t", "name": "document", "input": outer.document}
                message = {
                    "id": "m",
                    "type": "message",
                    "role": "assistant",
                    "model": MODEL,
                    "content": [block],
                    "stop_reason": "tool_use",
                    "usage": {"input_tokens": 11, "output_tokens": 3},
                }
                error = {"type": "error", "error": {"type": "invalid_request_error", "message": "no"}}
                body = json.dumps(message if outer.code == 200 else error).encode()
                self.send_response(outer.code)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()


@pytest.fixture
def stand_in():
    running = StandIn()
    yield running
    running.server.shutdown()


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(provider_module, "MAX_REPEATS", 0)


async def with_engine(handler, stand_in, **options):
    engine = ModalProvider("http://engine/generate", transport=httpx.MockTransport(handler))
    provider = FallbackProvider(engine, MODEL, api_key="k", base_url=stand_in.url, **options)
    await provider.initialize({})
    return provider


def refused(_):
    raise httpx.ConnectError("refused")


def failing(_):
    return httpx.Response(500, json={"error": {"message": "broken", "type": "EngineFailure"}})


def invalid(_):
    return httpx.Response(200, json={"text": {"n": "not a number"}})


def dead_end(_):
    return httpx.Response(422, json={"error": {"message": "no token", "type": "dead_end"}})


async def silent(_):
    await asyncio.sleep(30)


@pytest.mark.parametrize(
    ("handler", "cause"),
    [
        (refused, "unreachable"),
        (silent, "unreachable"),
        (failing, "refused"),
        (dead_end, "refused"),
        (invalid, "bad_answer"),
    ],
)
async def test_whenever_the_engine_gives_no_valid_document_the_fallback_answers_and_says_so(handler, cause, stand_in):
    provider = await with_engine(handler, stand_in, engine_timeout_s=0.3)
    assert await provider.generate_structured("x", SCHEMA, 100, 0.2) == {"n": 1}
    assert provider.last_answer["answered_by"] == f"anthropic:{MODEL}"
    assert provider.last_answer["engine_error"]
    assert provider.failures == {cause: 1}
    assert provider.answers == {f"anthropic:{MODEL}": 1}
    asked = stand_in.asked[0]
    assert (asked["model"], asked["max_tokens"], asked["tool_choice"]["name"]) == (MODEL, 100, "document")
    assert asked["tools"][0]["input_schema"] == SCHEMA
    await provider.aclose()


async def test_a_healthy_engine_answers_itself(stand_in):
    provider = await with_engine(lambda _: httpx.Response(200, json={"text": {"n": 7}, "status": "complete"}), stand_in)
    assert await provider.generate_structured("x", SCHEMA) == {"n": 7}
    assert provider.last_answer["answered_by"] == "engine"
    assert provider.last_answer["status"] == "complete"
    assert stand_in.asked == []


async def test_a_callers_mistake_is_not_passed_on(stand_in):
    error = {"message": "unknown field", "type": "UnknownOption", "param": "x"}
    provider = await with_engine(lambda _: httpx.Response(400, json={"error": error}), stand_in)
    with pytest.raises(Refused, match="unknown field"):
        await provider.generate_structured("x", SCHEMA)
    assert stand_in.asked == []


@pytest.mark.parametrize("broken", ["code", "document"])
async def test_with_both_down_there_is_one_typed_error_with_both_reasons(stand_in, broken):
    provider = await with_engine(failing, stand_in)
    if broken == "code":
        stand_in.code = 400
    else:
        stand_in.document = {"n": "wrong"}
    with pytest.raises(NobodyAnswered, match="broken") as caught:
        await provider.generate_structured("x", SCHEMA)
    assert isinstance(caught.value.engine_error, Refused)
    assert provider.failures == {"refused": 1, "fallback": 1}


async def test_a_key_in_the_environment_switches_nothing_on(monkeypatch):
    monkeypatch.setenv("ANTHROPIC_API_KEY", "k")
    provider = ModalProvider("http://engine", transport=httpx.MockTransport(failing))
    await provider.initialize({})
    with pytest.raises(Refused):
        await provider.generate_structured("x", SCHEMA)
    with pytest.raises(ValueError, match="name the fallback model"):
        FallbackProvider(provider, "")


async def test_health_is_the_engines(stand_in):
    provider = await with_engine(refused, stand_in)
    assert await provider.check_health() is False
    with pytest.raises(RuntimeError, match="initialize"):
        await FallbackProvider(provider.engine, MODEL).generate_structured("x", SCHEMA)
