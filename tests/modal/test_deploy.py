"""What `modal deploy modal_app.py` sends, as the plane received it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import httpx
import modal
import pytest

from engine.serve.deployment import HEALTH_PACKAGES
from tests.modal.conftest import HEALTH, Deploy
from tests.modal.environments import canonical
from tests.modal.launcher import HERE
from tests.modal.plane import Plane
from tests.modal.web import PROXY_TOKEN


def test_health_answers_from_an_image_of_its_own_packages_without_an_engine(plane: Plane, deploy: Deploy) -> None:
    deploy("quiet")
    told = modal.Function.from_name("quiet", "state", client=plane.client).remote()
    assert (told["state"], told["status"]) == ("cold", "healthy")
    assert plane.function("quiet", "Engine.*").containers == []


def test_an_app_that_is_not_there_is_not_found(plane: Plane) -> None:
    with pytest.raises(modal.exception.NotFoundError):
        plane.cls("nowhere").info.remote()


@pytest.mark.skipif(not HEALTH.site_packages.exists() and "CI" not in os.environ, reason="`make setup` has not run")
def test_the_health_image_is_run_with_its_own_packages_alone() -> None:
    assert HEALTH.distributions.keys() == HEALTH.closure([*HEALTH_PACKAGES, "modal"])


@pytest.mark.parametrize("packages", [HEALTH_PACKAGES, ("uvicorn",)])
def test_the_import_filter_lets_through_the_closure_and_nothing_else(packages: tuple[str, ...], tmp_path: Path) -> None:
    names = HERE.closure(packages)
    folder = HERE.link(names, tmp_path, HERE.site_packages)
    code = "import importlib.metadata as m; print(*sorted(d.metadata['Name'] for d in m.distributions(path=[{!r}])))"
    found = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code.format(str(folder))], capture_output=True, text=True, check=True
    )
    assert {canonical(name) for name in found.stdout.split()} == names
    assert "pytest" not in names
    assert not list(folder.glob("pytest*"))


def test_a_stranger_costs_nothing_behind_modals_proxy_auth(plane: Plane, deploy: Deploy) -> None:
    deploy("guarded", MASKLOOP_AUTH="proxy")
    engine, health = (plane.function("guarded", tag) for tag in ("Engine.*", "health"))
    for url in (engine.web_urls["web"] + "/generate", health.web_urls[""]):
        assert httpx.post(url, json={"prompt": "x"}).status_code == 401
    assert engine.containers == health.containers == []
    told = httpx.get(health.web_urls[""], headers=PROXY_TOKEN, timeout=60)
    assert (told.status_code, told.json()["state"]) == (200, "cold")
    assert engine.containers == []
