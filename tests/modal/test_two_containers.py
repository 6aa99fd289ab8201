"""Two containers of one deployment, started from a memory snapshot of their imports, and what health says of them."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.modal.conftest import Deploy
from tests.modal.control_plane.functions import Function
from tests.modal.control_plane.plane import PATIENCE_S, Plane

APP = "pair"


@pytest.fixture(scope="module")
def pair(plane: Plane, deploy: Deploy) -> Function:
    """Both up: one because somebody calls, the other one as Modal starts it under load."""
    plane.container_env["MODAL_ENABLE_SNAP_RESTORE"] = "1"  # what Modal's worker sets where it takes snapshots
    try:
        engine = deploy(APP, MASKLOOP_SNAPSHOT="cpu", MASKLOOP_MAX_CONTAINERS="2")
        call = engine.info.spawn()
        second = plane.start(APP)
        assert call.get(timeout=PATIENCE_S)["state"] == "ready"
        plane.wait_until(lambda: '"event": "loaded"' in second.log)
    finally:
        del plane.container_env["MODAL_ENABLE_SNAP_RESTORE"]
    return plane.function(APP, "Engine.*")


def health(plane: Plane) -> dict[str, Any]:
    answer = httpx.get(plane.function(APP, "health").web_urls[""], timeout=PATIENCE_S)
    assert answer.status_code == 200
    return answer.json()


def test_the_snapshot_would_hold_the_heavy_libraries(pair: Function) -> None:
    for container in pair.containers:
        maps = container.mapped_at_checkpoint or ""
        assert all(library in maps for library in ("libtorch_cpu", "xgrammar", "tokenizers"))
        assert '"event": "loaded"' not in container.log_at_checkpoint


def test_health_is_the_sum_of_both_and_of_one_while_the_other_stops(plane: Plane, pair: Function) -> None:
    plane.wait_until(lambda: health(plane)["containers"] == {"ready": 2})
    told = health(plane)
    assert (told["state"], told["status"], told["backend"]) == ("ready", "healthy", "maskloop")
    first, second = pair.containers
    second.interrupt()
    plane.wait_until(lambda: second.exit_code is not None)
    told = health(plane)
    assert (told["state"], told["containers"]) == ("ready", {"ready": 1})
    plane.run(pair.stop(first))
    plane.wait_until(lambda: first.exit_code is not None)
    told = health(plane)
    assert (told["state"], told["status"], told["containers"]) == ("cold", "healthy", {})
