"""A client that behaves as LIFT's does, one behaviour a test, against the real app on a real port.

`AsLift` is written from the recorded behaviours: it slices `raw_output`, takes any `error` key for a failure, reads one
of two keys, follows redirects, sends no headers.
"""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx
import pytest

from engine.serve.settings import ServeSettings
from tests.serve.fakes import DOCUMENT, FakeEngine, Server, document

pytestmark = pytest.mark.anyio
SCHEMA = {"type": "object"}


class AsLift:
    def __init__(self, endpoint_url: str, key: str) -> None:
        self.endpoint_url, self.key = endpoint_url.rstrip("/"), key
        if "-generate.modal.run" in self.endpoint_url:
            self.health_url = self.endpoint_url.replace("-generate.modal.run", "-health.modal.run")
        else:
            self.health_url = self.endpoint_url.replace("/generate", "/health")
        self.client = httpx.AsyncClient(timeout=600.0, follow_redirects=True)

    async def generate_structured(self, prompt, schema, max_tokens=2048, temperature=0.3, top_p=0.95):
        fields = {"prompt": prompt, "schema": schema, "max_tokens": max_tokens}
        response = await self.client.post(
            self.endpoint_url, json={**fields, "temperature": temperature, "top_p": top_p}
        )
        try:
            response.raise_for_status()
        except httpx.HTTPStatusError as error:
            raise ValueError(f"{error.response.status_code}: {error.response.text[:500]}") from error
        result = response.json()
        if "error" in result:
            raise ValueError(f"{result['error']}: {result.get('raw_output', '')[:200]}")
        return result[self.key]

    async def check_health(self):
        return (await self.client.get(self.health_url, timeout=10.0)).status_code == 200


@pytest.fixture
def server():
    with Server(FakeEngine()) as running:
        yield running


@pytest.mark.parametrize("key", ["text", "ir_json"])
@pytest.mark.parametrize("path", ["/generate", "/generate_ir", "/", ""])
async def test_both_generations_of_the_client_get_the_document_from_every_url_form(server, path, key):
    assert await AsLift(server.url + path, key).generate_structured("x", SCHEMA) == DOCUMENT


@pytest.mark.parametrize("path", ["/generate", "/generate_ir", "/", ""])
async def test_its_health_derivation_ends_at_a_route_that_answers(server, path):
    server.engine.calls.clear()
    assert await AsLift(server.url + path, "text").check_health()
    assert server.engine.calls == []


async def test_a_refused_schema_is_a_value_error_that_shows_code_and_reason(server):
    with pytest.raises(ValueError, match=r"^422: .*no document satisfies this.*pointer.*/refused"):
        await AsLift(server.url, "text").generate_structured("x", {"refused": 1})


async def test_a_budget_under_the_shortest_document_is_told_as_such(server):
    with pytest.raises(ValueError, match=r"^422: .*BudgetTooSmall"):
        await AsLift(server.url, "text").generate_structured("x", SCHEMA, max_tokens=1)


@pytest.mark.parametrize("status", ["invalid", "dead_end", "timeout", "cancelled", "error"])
async def test_no_failure_comes_as_200_or_breaks_the_client(status):
    engine = FakeEngine(lambda request: document(request, status=status, valid=False))
    with Server(engine) as server, pytest.raises(ValueError, match=r"^(422|503|504|500): \{\"error\":"):
        await AsLift(server.url, "text").generate_structured("x", SCHEMA)


@pytest.mark.parametrize("status", ["complete", "closed"])
async def test_a_success_never_has_an_error_key(status):
    with Server(FakeEngine(lambda request: document(request, status=status))) as server:
        assert await AsLift(server.url, "ir_json").generate_structured("x", SCHEMA) == DOCUMENT
        body = server.post("/generate", {"prompt": "x", "schema": SCHEMA}).json()
    assert "error" not in body
    assert isinstance(body.get("raw_output", ""), str)


async def test_modals_redirect_after_150_s_is_followed_to_the_result():
    class Redirecting(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(303)
            self.send_header("location", "/?__modal_function_call_id=fc-1")
            self.end_headers()

        def do_GET(self):
            body = json.dumps({"text": DOCUMENT}).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    proxy = HTTPServer(("127.0.0.1", 0), Redirecting)
    threading.Thread(target=proxy.serve_forever, args=(0.05,), daemon=True).start()
    try:
        url = f"http://127.0.0.1:{proxy.server_port}/"
        assert await AsLift(url, "text").generate_structured("x", SCHEMA) == DOCUMENT
    finally:
        proxy.shutdown()


async def test_without_headers_it_meets_401_where_keys_are_set():
    with Server(FakeEngine(), ServeSettings(api_keys=("k",))) as server:
        with pytest.raises(ValueError, match=r"^401: "):
            await AsLift(server.url, "text").generate_structured("x", SCHEMA)
        assert await AsLift(server.url, "text").check_health()
