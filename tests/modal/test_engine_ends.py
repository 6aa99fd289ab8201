"""How a container with the engine ends: nobody calls, a step that never returns, a crash."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from engine.serve.service.watchdog import EXIT_WEDGED
from tests.modal.conftest import Deploy
from tests.modal.control_plane.functions import Function
from tests.modal.control_plane.plane import PATIENCE_S, ROOT, Plane

LONG = {"temperature": 0.0, "max_tokens": 7000}
"""Greedy text of the tiny model, which does not end by itself: tens of seconds."""


@pytest.fixture(scope="module")
def ends(plane: Plane, deploy: Deploy) -> Any:
    """An app whose containers are lost one after the other."""
    plane.container_modules["sitecustomize"] = str(ROOT / "tests/modal/deployed/stuck_step.py")
    engine = deploy("ends", MASKLOOP_SCALEDOWN_WINDOW="4", MASKLOOP_MAX_CONTAINERS="1")
    engine.info.remote()
    return engine


@pytest.fixture
def function(plane: Plane, ends: Any) -> Function:
    return plane.function("ends", "Engine.*")


def test_a_step_that_never_returns_is_told_to_callers_and_the_container_replaced(
    plane: Plane, ends: Any, function: Function
) -> None:
    (stuck,) = function.containers
    call = ends.generate.spawn("hello", **LONG)
    plane.wait_until(lambda: stuck.running)
    stuck.send_signal(signal.SIGUSR2)
    answer = call.get(timeout=PATIENCE_S)
    assert (answer["status"], answer["error_detail"]["status_code"]) == ("error", 500)
    assert "being replaced" in answer["error"]
    plane.wait_until(lambda: stuck.exit_code is not None)
    assert (stuck.exit_code, stuck.stopping) == (EXIT_WEDGED, True)
    assert '"event": "wedged"' in stuck.log
    assert ends.generate.remote("hello", temperature=0.0, max_tokens=5)["status"] == "length"
    assert function.containers != [stuck]


def test_a_call_whose_container_crashes_is_answered_by_the_next_even_while_dict_fails(
    plane: Plane, ends: Any, function: Function
) -> None:
    (doomed,) = function.containers
    call = ends.generate.spawn("hello", temperature=0.0, max_tokens=400, seed=1)
    plane.wait_until(lambda: doomed.running)
    plane.dict_fails = True
    doomed.kill()
    try:
        answer = call.get(timeout=PATIENCE_S)
    finally:
        plane.dict_fails = False
    (heir,) = function.containers
    assert "heartbeat_failed" in heir.log
    assert heir.log.count('"event": "loaded"') == 1
    assert (answer["status"], answer["tokens_used"]) == ("length", 400)
    assert plane.calls[call.object_id].inputs[0].attempts == 2


def test_a_container_that_nobody_calls_closes(plane: Plane, function: Function) -> None:
    (last,) = function.containers
    plane.wait_until(lambda: last.exit_code is not None)
    assert last.exit_code == 0
    assert '"event": "stopped"' in last.log
    assert function.containers == []
