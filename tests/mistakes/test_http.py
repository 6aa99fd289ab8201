"""Every mistake over HTTP is a 4xx whose body holds one line that names it, and nothing in the log: `http.tsv`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from engine import Engine
from tests.mistakes.table import Mistake, mistakes
from tests.serve.fakes import Server

pytestmark = pytest.mark.slow


@pytest.fixture(scope="package")
def server(engine: Engine) -> Iterator[Server]:
    with Server(engine) as running:
        yield running


@pytest.mark.parametrize("mistake", mistakes("http"), ids=lambda mistake: mistake.made)
def test_a_mistake_is_one_line(server: Server, capfd: pytest.CaptureFixture[str], mistake: Mistake) -> None:
    method, path, *body = mistake.made.split(" ", 2)
    headers = {"content-type": "application/json"}
    answer = server.client.request(method, path, content=body[0] if body else None, headers=headers)
    assert answer.status_code == int(mistake.code), answer.text
    line = answer.json()["error"]["message"]
    assert "\n" not in line
    for named in mistake.names:
        assert named in line
    assert "Traceback" not in capfd.readouterr().err
