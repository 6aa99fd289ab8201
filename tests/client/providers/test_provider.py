"""LIFT's provider over HTTP: what it sends, what it makes of every answer, what it repeats."""

from __future__ import annotations

import json

import httpx
import pytest

from engine.client import BadAnswer, ColdStart, ModalProvider, ProviderError, Refused, Unreachable
from engine.client.providers import http as provider_module
from engine.serve.app import create_app
from engine.serve.service.engine_slot import EngineSlot
from engine.serve.settings import ServeSettings
from tests.serve.fakes import DOCUMENT, FakeEngine, document

pytestmark = pytest.mark.anyio
SCHEMA = {"type": "object"}
URL = "https://ws--maskloop-generate.modal.run"


@pytest.fixture(autouse=True)
def waits(monkeypatch):
    asked = []

    async def sleep(seconds):
        asked.append(seconds)

    monkeypatch.setattr(provider_module.asyncio, "sleep", sleep)
    return asked


async def connected(handler, url=URL, **options):
    provider = ModalProvider(url, transport=httpx.MockTransport(handler), **options)
    await provider.initialize({})
    return provider


def replying(*answers):
    """A handler that gives these answers one after another, then the last again; it keeps what was asked."""
    seen: list[httpx.Request] = []

    def handler(request):
        seen.append(request)
        answer = answers[min(len(seen), len(answers)) - 1]
        if isinstance(answer, Exception):
            raise answer
        return answer

    handler.seen = seen
    return handler


async def test_the_interface_is_lifts():
    provider = ModalProvider(URL)
    assert (provider.name, provider.provider_type) == ("modal", "modal")
    assert (provider.supports_streaming, provider.supports_structured_output) == (False, True)
    capabilities = provider.capabilities
    assert (capabilities.streaming, capabilities.structured_output, capabilities.reasoning) == (False, True, True)
    with pytest.raises(RuntimeError, match="initialize"):
        await provider.generate_structured("x", SCHEMA)
    assert await provider.check_health() is False
    for call in (provider.generate_text("x"), provider.generate_stream("x")):
        with pytest.raises(NotImplementedError):
            await call
    with pytest.raises(ValueError, match="credentials"):
        await provider.ensure_initialized(None)
    await provider.ensure_initialized({"ignored": 1})
    await provider.aclose()
    await provider.aclose()


async def test_it_always_sends_lifts_five_fields_and_more_when_told():
    handler = replying(httpx.Response(200, json={"ir_json": DOCUMENT}))
    provider = await connected(handler)
    assert await provider.generate_structured("x", SCHEMA) == DOCUMENT
    await provider.generate_structured("x", SCHEMA, 5, 0.0, top_p=0.5, seed=3)
    first, second = (json.loads(request.content) for request in handler.seen)
    assert first == {"prompt": "x", "schema": SCHEMA, "max_tokens": 2048, "temperature": 0.3, "top_p": 0.95}
    assert second == {"prompt": "x", "schema": SCHEMA, "max_tokens": 5, "temperature": 0.0, "top_p": 0.5, "seed": 3}


@pytest.mark.parametrize("body", [{"text": DOCUMENT}, {"ir_json": DOCUMENT}, {"text": DOCUMENT, "ir_json": DOCUMENT}])
async def test_either_key_of_the_old_servers_will_do(body):
    provider = await connected(replying(httpx.Response(200, json=body)))
    assert await provider.generate_structured("x", SCHEMA) == DOCUMENT
    assert provider.last_answer == body


@pytest.mark.parametrize(
    "response",
    [
        httpx.Response(200, json={"text": "a string"}),
        httpx.Response(200, json=[1]),
        httpx.Response(200, text="<html>"),
        httpx.Response(200, json={}),
    ],
)
async def test_an_answer_out_of_contract_is_named(response):
    with pytest.raises(BadAnswer):
        await (await connected(replying(response))).generate_structured("x", SCHEMA)


async def test_an_error_key_under_200_is_a_refusal_with_the_raw_output():
    body = {"error": "bad JSON", "raw_output": "{half", "finish_reason": "json_error"}
    with pytest.raises(Refused, match=r"bad JSON.*\{half"):
        await (await connected(replying(httpx.Response(200, json=body)))).generate_structured("x", SCHEMA)


async def test_a_status_error_is_a_value_error_with_code_message_and_detail():
    error = {"message": "unknown field 'x'", "type": "UnknownOption", "param": "x", "code": "u", "pointer": None}
    handler = replying(httpx.Response(400, json={"error": error}))
    with pytest.raises(ValueError, match="HTTP 400: unknown field 'x'") as caught:
        await (await connected(handler)).generate_structured("x", SCHEMA)
    assert (caught.value.status_code, caught.value.detail["param"]) == (400, "x")
    assert caught.value.is_callers_fault
    assert len(handler.seen) == 1


@pytest.mark.parametrize("code", [500, 502, 504])
async def test_what_may_have_decoded_is_never_repeated(code):
    handler = replying(httpx.Response(code, text="oh"))
    with pytest.raises(Refused):
        await (await connected(handler)).generate_structured("x", SCHEMA)
    assert len(handler.seen) == 1


@pytest.mark.parametrize("code", [408, 429, 503])
async def test_what_never_began_is_repeated_after_the_time_asked(code, waits):
    busy = httpx.Response(code, headers={"retry-after": "7"}, json={"error": {"message": "later"}})
    handler = replying(busy, busy, httpx.Response(200, json={"text": DOCUMENT}))
    assert await (await connected(handler)).generate_structured("x", SCHEMA) == DOCUMENT
    assert waits == [7.0, 7.0]


async def test_repeats_end():
    handler = replying(httpx.Response(503, json={"error": {"message": "the engine is loading; try again later"}}))
    with pytest.raises(ColdStart, match="loading"):
        await (await connected(handler)).generate_structured("x", SCHEMA)
    assert len(handler.seen) == provider_module.MAX_REPEATS + 1


async def test_modals_303_is_followed_with_a_get():
    def handler(request):
        if request.method == "POST":
            return httpx.Response(303, headers={"location": URL + "/?__modal_function_call_id=fc-1"})
        return httpx.Response(200, json={"text": DOCUMENT})

    assert await (await connected(handler)).generate_structured("x", SCHEMA) == DOCUMENT


async def test_a_refused_connection_is_repeated_and_then_told():
    handler = replying(httpx.ConnectError(""))
    with pytest.raises(Unreachable, match="ConnectError"):
        await (await connected(handler)).generate_structured("x", SCHEMA)
    posts = [request for request in handler.seen if request.method == "POST"]
    assert len(posts) == provider_module.MAX_REPEATS + 1


@pytest.mark.parametrize(("state", "kind"), [("loading", ColdStart), ("cold", ColdStart), ("ready", Unreachable)])
async def test_silence_is_explained_by_the_health_route(state, kind):
    def handler(request):
        if request.method == "POST":
            raise httpx.ReadTimeout("")
        assert str(request.url) == "https://ws--maskloop-health.modal.run"
        return httpx.Response(200, json={"state": state})

    with pytest.raises(kind, match=state) as caught:
        await (await connected(handler)).generate_structured("x", SCHEMA)
    assert isinstance(caught.value, ProviderError)
    assert "ReadTimeout" in str(caught.value)


@pytest.mark.parametrize(("code", "healthy"), [(200, True), (503, False), (404, False)])
async def test_health_is_the_status_code(code, healthy):
    provider = await connected(replying(httpx.Response(code, json={"state": "ready"})))
    assert await provider.check_health() is healthy


async def test_credentials_come_from_the_environment(monkeypatch):
    handler = replying(httpx.Response(200, json={"text": DOCUMENT}))
    env = {"MODAL_ENDPOINT_URL": URL + "/", "MASKLOOP_PROXY_KEY": "wk", "MASKLOOP_PROXY_SECRET": "ws"}
    for name, value in {**env, "MASKLOOP_API_KEY": "secret"}.items():
        monkeypatch.setenv(name, value)
    provider = ModalProvider.from_env(transport=httpx.MockTransport(handler))
    await provider.initialize({})
    await provider.generate_structured("x", SCHEMA)
    headers = handler.seen[0].headers
    assert (headers["modal-key"], headers["modal-secret"]) == ("wk", "ws")
    assert headers["authorization"] == "Bearer secret"
    assert provider.endpoint_url == URL
    monkeypatch.delenv("MODAL_ENDPOINT_URL")
    with pytest.raises(ValueError, match="MODAL_ENDPOINT_URL"):
        ModalProvider.from_env()


async def against_the_app(engine, settings=None, **options):
    app = create_app(engine, settings)
    provider = ModalProvider("http://service/generate", transport=httpx.ASGITransport(app=app), **options)
    await provider.initialize({})
    return provider


async def test_against_our_own_app():
    provider = await against_the_app(FakeEngine())
    assert await provider.generate_structured("x", SCHEMA) == DOCUMENT
    assert provider.last_answer["status"] == "complete"
    assert await provider.check_health()


async def test_our_apps_errors_reach_the_caller_as_values():
    provider = await against_the_app(FakeEngine())
    with pytest.raises(Refused, match="HTTP 422: no document satisfies") as caught:
        await provider.generate_structured("x", {"refused": 1})
    assert caught.value.detail["pointer"] == "/refused"
    provider = await against_the_app(FakeEngine(lambda request: document(request, status="dead_end", valid=False)))
    with pytest.raises(Refused) as caught:
        await provider.generate_structured("x", SCHEMA)
    assert not caught.value.is_callers_fault


async def test_our_apps_keys_are_the_providers_header():
    settings = ServeSettings(api_keys=("k",))
    with pytest.raises(Refused, match="HTTP 401"):
        await (await against_the_app(FakeEngine(), settings)).generate_structured("x", SCHEMA)
    provider = await against_the_app(FakeEngine(), settings, headers={"Authorization": "Bearer k"})
    assert await provider.generate_structured("x", SCHEMA) == DOCUMENT


async def test_our_apps_loading_is_a_cold_start_not_a_failure():
    provider = await against_the_app(EngineSlot(FakeEngine), timeout_s=0.1)
    slot_state = (await provider.health())["state"]
    assert slot_state == "cold"
    with pytest.raises(ProviderError, match="cold"):
        await provider.generate_structured("x", SCHEMA)
