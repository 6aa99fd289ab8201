"""Texts in a language over HTTP: by the schema, and by pointer as a plain object."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.decode.fakes import fake_engine
from tests.decode.requests.test_syntax import prefers
from tests.serve.fakes import Server

PLAIN = {"type": "object", "properties": {"code": {"type": "string"}}, "required": ["code"]}
PYTHON = {"language": "python", "unit": "expression"}
SAID = {"type": "object", "properties": {"code": {"type": "string", "x-syntax": PYTHON}}, "required": ["code"]}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with fake_engine(prefers('{"code":"f(x]"}'), tmp_path)[0] as engine, Server(engine) as running:
        yield running


@pytest.mark.parametrize("body", [
    {"schema": SAID},
    {"schema": PLAIN, "checks": {"/code": PYTHON}},
    {"schema": PLAIN, "checks": {"/*": [PYTHON]}},
])  # fmt: skip
def test_every_route_writes_what_parses(server: Server, body: dict[str, Any]) -> None:
    answer = server.client.post("/generate", json={"prompt": "x", "temperature": 0, **body}).json()
    assert answer["valid"]
    ast.parse(answer["text"]["code"], mode="eval")
    chat = {
        "model": "fake",
        "messages": [{"role": "user", "content": "x"}],
        "temperature": 0,
        "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": body["schema"]}},
        **{name: value for name, value in body.items() if name == "checks"},
    }
    content = server.client.post("/v1/chat/completions", json=chat).json()["choices"][0]["message"]["content"]
    ast.parse(json.loads(content)["code"], mode="eval")
    verdicts = server.client.post("/check", json=body).json()["verdicts"]
    told = [v for v in verdicts if v["keyword"] in ("x-syntax", "check")]
    assert [v["verdict"] for v in told] == ["checked"]
    assert "python" in told[0]["reason"]


def test_without_it_the_model_has_its_way(server: Server) -> None:
    answer = server.client.post("/generate", json={"prompt": "x", "temperature": 0, "schema": PLAIN}).json()
    assert answer["text"]["code"] == "f(x]"


def test_a_stream_holds_back_what_may_be_taken_back(server: Server) -> None:
    chat = {
        "model": "fake",
        "messages": [{"role": "user", "content": "x"}],
        "temperature": 0,
        "stream": True,
        "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SAID}},
    }
    text = ""
    with server.client.stream("POST", "/v1/chat/completions", json=chat) as answer:
        for line in answer.iter_lines():
            if line.startswith("data: {"):
                text += json.loads(line.removeprefix("data: "))["choices"][0]["delta"].get("content") or ""
    ast.parse(json.loads(text)["code"], mode="eval")


@pytest.mark.parametrize(("check", "told"), [
    ({"language": "cobol"}, "language 'cobol' is not followed"),
    ({"language": "python", "unit": "verb"}, "unit 'verb' of python is not followed"),
    ({"language": "python", "dialect": "2"}, "python has no dialects"),
    ([PYTHON, {"unit": "body"}], "a syntax needs a language"),
    (5, "checks./code must be"),
])  # fmt: skip
def test_a_mistake_is_told_with_400(server: Server, check: Any, told: str) -> None:
    answer = server.client.post("/generate", json={"prompt": "x", "schema": PLAIN, "checks": {"/code": check}})
    assert answer.status_code == 400
    assert told in answer.json()["error"]["message"]
