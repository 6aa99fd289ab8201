"""The documents of the service are true: their JSON is sent, their Python is run, their names exist."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from engine.serve.app import create_app
from engine.serve.lift.functions import Functions
from engine.serve.service.service import Service
from tests.serve.fakes import FakeEngine

DOCS = Path(__file__).resolve().parents[2] / "docs"
BLOCK = re.compile(r"^```(\w+) ?([^\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(name):
    return BLOCK.findall((DOCS / name).read_text())


def exchanges(name):
    """(METHOD PATH, request, code, answer), each request with the response block that follows it."""
    told = [block for block in blocks(name) if block[0] == "json"]
    for (_, asked, body), (_, answered, expected) in zip(told[::2], told[1::2], strict=True):
        kind, _, route = asked.partition(" ")
        assert kind == "request"
        yield pytest.param(
            route, json.loads(body), int(answered.split()[1]), json.loads(expected), id=f"{route} {answered}"
        )


def matches(example, value):
    if example == "...":
        return True
    if isinstance(example, dict):
        return isinstance(value, dict) and all(key in value and matches(example[key], value[key]) for key in example)
    if isinstance(example, list):
        return isinstance(value, list) and len(example) == len(value) and all(map(matches, example, value))
    return example == value


@pytest.fixture(scope="module")
def client():
    return TestClient(create_app(FakeEngine()), client=("127.0.0.1", 1))


@pytest.mark.parametrize(("route", "body", "code", "expected"), exchanges("contracts.md"))
def test_every_json_example_of_the_contracts_is_what_the_service_does(client, route, body, code, expected):
    method, path = route.split()
    client.get("/warmup")
    response = client.request(method, path, json=body)
    assert response.status_code == code, response.text
    assert matches(expected, response.json()), json.dumps(response.json(), indent=1)


@pytest.mark.parametrize("name", ["contracts.md", "lift.md", "deploy.md", "schemas.md"])
def test_every_python_example_marked_run_runs(name):
    code = [body for kind, mark, body in blocks(name) if kind == "python" and mark == "run"]
    assert code or name == "deploy.md"
    for body in code:
        exec(compile(body, name, "exec"), {"functions": Functions(Service(FakeEngine()))})


@pytest.mark.parametrize("name", ["contracts.md", "lift.md", "deploy.md"])
def test_every_route_named_exists_and_every_variable_is_read(name):
    text = (DOCS / name).read_text()
    served = set(create_app(FakeEngine()).openapi()["paths"])
    named = set(re.findall(r"`(?:GET|POST) (/[\w/]*)", text)) | set(
        re.findall(r"`(/(?:health|generate|v1)[\w/]*)`", text)
    )
    assert named <= served, named - served
    source = "".join(path.read_text() for path in (DOCS.parent / "engine").rglob("*.py"))
    prefixed = set(re.findall(r"MASKLOOP_([A-Z_]+)", text))
    fields = {line.strip().split(":")[0].upper() for line in source.splitlines() if re.match(r"    \w+: ", line)}
    missing = {name for name in prefixed if f"MASKLOOP_{name}" not in source and name not in fields}
    assert not missing


def test_the_cost_table_is_what_the_script_prints():
    from bench.cost import days, table
    from engine.serve.modal.deployment import Deployment

    cells = list(days(service_s=3.0, load_s=60.0, usd_per_s=Deployment().container_usd_per_s))
    text = (DOCS / "deploy.md").read_text()
    assert table(cells) in text[text.index("cost:begin") : text.index("cost:end")]


def test_quoted_prices_are_the_listed_ones():
    from engine.serve.prices import LISTED

    text = (DOCS / "deploy.md").read_text()
    assert LISTED.as_of in text
    quoted = dict(re.findall(r"^\| ([\w-]+) \| (0\.\d+) \|", text, re.MULTILINE))
    quoted = {name: price for name, price in quoted.items() if name in LISTED.gpu}
    assert len(quoted) == 4
    assert all(float(price) == LISTED.gpu[name] for name, price in quoted.items())


def test_the_page_of_the_service_lists_every_route_and_every_field(client):
    page = client.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert re.search(r"<(script|link|img)|https?://", page.text) is None
    api = client.get("/openapi.json").json()
    told = [(method.upper(), path) for path, methods in api["paths"].items() for method in methods]
    assert re.findall(r"<h2><code>(\w+) (.*?)</code>", page.text) == told
    for route in api["paths"].values():
        body = route.get("post", {}).get("requestBody")
        if body:
            name = body["content"]["application/json"]["schema"]["$ref"].rsplit("/", 1)[1]
            for field in api["components"]["schemas"][name]["properties"]:
                assert f"<td><code>{field}</code></td>" in page.text
