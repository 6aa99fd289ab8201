"""Every endpoint form leads to a health route, and that route answers 200 without touching the engine."""

from __future__ import annotations

import httpx
import pytest

from engine.client.providers.health_url import health_url
from engine.serve.app import create_app
from tests.serve.fakes import FakeEngine

FORMS = [
    ("https://ws--maskloop-generate.modal.run", "https://ws--maskloop-health.modal.run"),
    ("https://ws--generate.modal.run", "https://ws--health.modal.run"),
    ("https://ws--generate.modal.run/", "https://ws--health.modal.run"),
    ("https://ws-dev--qwen-80b-generate.modal.run", "https://ws-dev--qwen-80b-health.modal.run"),
    ("http://127.0.0.1:8000/generate", "http://127.0.0.1:8000/health"),
    ("http://127.0.0.1:8000/generate/", "http://127.0.0.1:8000/health"),
    ("http://127.0.0.1:8000/generate_ir", "http://127.0.0.1:8000/health_ir"),
    ("https://ws--maskloop-generate.modal.run/generate", "https://ws--maskloop-generate.modal.run/health"),
    ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
    ("http://127.0.0.1:8000/", "http://127.0.0.1:8000"),
    ("http://generate.example.org/api/generate", "http://generate.example.org/api/health"),
]


@pytest.mark.parametrize(("endpoint", "health"), FORMS)
def test_the_health_url_of_every_form(endpoint, health):
    assert health_url(endpoint) == health


def lifts_derivation(endpoint: str) -> str:
    """What LIFT's client does at its current commit, told by its facts: the label pair, then the path, else nothing."""
    endpoint = endpoint.rstrip("/")
    if "-generate.modal.run" in endpoint:
        return endpoint.replace("-generate.modal.run", "-health.modal.run")
    return endpoint.replace("/generate", "/health")


@pytest.mark.anyio
@pytest.mark.parametrize("path", ["/generate", "/generate_ir", "/", ""])
@pytest.mark.parametrize("derive", [health_url, lifts_derivation])
async def test_the_derived_route_answers_200_without_touching_the_engine(path, derive):
    engine = FakeEngine()
    app = create_app(engine)
    engine.calls.clear()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app)) as client:
        response = await client.get(derive("http://service" + path))
    assert (response.status_code, response.json()["status"]) == (200, "healthy")
    assert engine.calls == []


@pytest.mark.parametrize("endpoint", [form for form, _ in FORMS if "modal.run" in form and "/generate" not in form])
def test_the_label_pair_is_derived_alike_by_both_clients(endpoint):
    assert health_url(endpoint) == lifts_derivation(endpoint)
