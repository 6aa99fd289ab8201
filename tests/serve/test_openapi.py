"""The app's own OpenAPI document, attacked: whatever it allows or forbids, nothing is a server error."""

from __future__ import annotations

import json

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode, checks
from schemathesis.specs.openapi import checks as openapi_checks

from engine.serve.app import create_app
from tests.serve.fakes import FakeEngine, Server, document


def script(request):
    """Logprobs and samples where they were asked for, so that every part of an answer is built."""
    entry = {"token_id": 1, "token": "x", "raw": -1.0, "constrained": -0.5, "top": []}
    one = document(request, logprobs=None if request.sampling.logprobs is None else (entry,))
    return one if request.sampling.n == 1 else document(request, samples=(one,) * request.sampling.n)


APP = create_app(FakeEngine(script))
API = schemathesis.openapi.from_dict(APP.openapi())
OPERATIONS = {operation.ok().label: operation.ok() for operation in API.get_all_operations()}
CHECKS = [
    checks.not_a_server_error,
    openapi_checks.status_code_conformance,
    openapi_checks.content_type_conformance,
]


@pytest.fixture(scope="module")
def url():
    with Server(FakeEngine(script)) as server:
        yield server.url


@pytest.mark.parametrize(
    ("label", "mode"),
    [
        (label, mode)
        for label in sorted(OPERATIONS)
        for mode in GenerationMode
        if mode is GenerationMode.POSITIVE or label.startswith("POST")
    ],
)
def test_no_input_is_a_server_error(url, label, mode):
    @settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(case=OPERATIONS[label].as_strategy(generation_mode=mode))
    def attack(case):
        case.call_and_validate(base_url=url, checks=CHECKS)

    attack()


def test_the_document_names_every_route_and_both_contracts():
    paths = APP.openapi()["paths"]
    assert {"/generate", "/generate_ir", "/", "/check", "/health", "/ready", "/metrics"} <= set(paths)
    assert {"/v1/chat/completions", "/v1/completions", "/v1/models"} <= set(paths)
    body = APP.openapi()["components"]["schemas"]["LiftBody"]
    assert {"prompt", "schema", "max_tokens", "temperature", "top_p"} <= set(body["properties"])
    assert body["additionalProperties"] is False
    json.dumps(APP.openapi())
