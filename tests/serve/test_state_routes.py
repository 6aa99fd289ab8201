"""Health, readiness, warm-up and metrics."""

from __future__ import annotations

import threading

import pytest

from engine.errors import ModelError
from engine.serve.service.engine_slot import EngineSlot
from engine.serve.settings import ServeSettings
from tests.serve.fakes import FakeEngine

KEYS = ServeSettings(api_keys=("first-key", "second-key"))


@pytest.mark.parametrize("path", ["/health", "/health_ir", "/"])
def test_health_answers_without_touching_the_engine(server, fake, path):
    fake.calls.clear()
    body = server.get(path).json()
    assert (body["status"], body["state"], body["model"]) == ("healthy", "ready", "fake")
    assert fake.calls == []


@pytest.mark.parametrize("path", ["/health", "/ready", "/", "/docs", "/openapi.json", "/v1/models", "/nothing"])
def test_head_is_answered_as_get_without_its_body(server, path):
    head, get = server.client.head(path), server.get(path)
    assert (head.status_code, head.content) == (get.status_code, b"")
    assert head.headers["content-type"] == get.headers["content-type"]
    assert head.headers["content-length"] == get.headers["content-length"]


def test_while_loading_health_says_so_and_requests_get_503(serving):
    release = threading.Event()

    def load():
        assert release.wait(10)
        return FakeEngine()

    server = serving(EngineSlot(load))
    try:
        health = server.get("/health")
        assert (health.status_code, health.json()["state"]) == (200, "loading")
        for response in (server.get("/ready"), server.post("/generate", {"prompt": "x"}), server.get("/v1/models")):
            assert (response.status_code, response.json()["error"]["type"]) == (503, "NotReady")
            assert response.headers["retry-after"]
    finally:
        release.set()
    assert server.get("/warmup").json()["ready_for_requests"] is True
    assert server.get("/ready").status_code == 200
    assert server.get("/health").json()["last_load_s"] >= 0


def test_a_failed_load_is_told_and_the_server_stays_up(serving):
    def load():
        raise ModelError("no such folder")

    server = serving(EngineSlot(load))
    assert server.get("/warmup").status_code >= 500
    body = server.get("/health").json()
    assert (body["state"], body["status"], body["reason"]) == ("failed", "unhealthy", "no such folder")
    assert "no such folder" in server.get("/ready").json()["error"]["message"] + body["reason"]


def test_an_engine_that_stopped_answering_is_not_ready(server, fake):
    fake.ready = False
    assert server.get("/ready").status_code == 503
    assert server.get("/health").json()["state"] == "failed"
    fake.ready = True


def test_warmup_warms_the_engine(server, fake):
    body = server.get("/warmup").json()
    assert (body["status"], body["model_loaded"], body["model"]) == ("warm", True, "fake")
    assert "warmup" in fake.calls
    assert len(fake.warmed) == 6


def test_metrics_count_requests_tokens_and_phases(server):
    server.post("/generate", {"prompt": "x", "schema": {"type": "object"}})
    server.post("/generate", {"prompt": "x", "schema": {"refused": 1}})
    text = server.get("/metrics").text
    assert 'maskloop_requests_total{route="/generate",status="complete"} 1.0' in text
    assert 'maskloop_requests_total{route="/generate",status="SchemaRefused"} 1.0' in text
    assert 'maskloop_tokens_total{kind="completion"} 5.0' in text
    assert 'maskloop_constrained_documents_total{valid="true"} 1.0' in text
    assert "maskloop_decode_seconds_count 1.0" in text
    assert "maskloop_mask_exposed_seconds_bucket" in text


@pytest.mark.parametrize("path", ["/generate", "/generate_ir", "/", "/check"])
def test_a_key_is_required_where_keys_exist(serving, fake, path):
    server = serving(fake, KEYS)
    body = {"prompt": "x", "schema": {}} if path != "/check" else {"schema": {}}
    for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "first-key"}, {"authorization": "Bearer"}):
        response = server.post(path, body, headers=headers)
        assert response.status_code == 401
        assert response.headers["www-authenticate"] == "Bearer"
        assert response.json()["error"]["type"] == "InvalidKey"
    assert fake.requests == []
    for key in KEYS.api_keys:
        assert server.post(path, body, headers={"authorization": f"Bearer {key}"}).status_code == 200


def test_keys_do_not_guard_health_but_guard_metrics_and_warmup(serving):
    server = serving(FakeEngine(), KEYS)
    assert [server.get(path).status_code for path in ("/health", "/health_ir", "/", "/ready")] == [200] * 4
    assert [server.get(path).status_code for path in ("/metrics", "/warmup", "/v1/models")] == [401] * 3


def test_non_ascii_keys_do_not_crash(serving):
    server = serving(FakeEngine(), KEYS)
    assert server.post("/generate", {"prompt": "x"}, headers={b"authorization": b"Bearer \xff\xfe"}).status_code == 401
