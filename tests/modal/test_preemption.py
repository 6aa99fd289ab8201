"""What Modal's entry point still sends after SIGINT, which is how a container is preempted (docs/deploy.md says it).

The signal cancels the task of every input at once. What a task makes of its cancellation is what the caller gets, and
the process waits for all of them before it runs the exit hooks.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx
import modal
import pytest
from modal_proto import api_pb2 as pb

from tests.modal.control_plane.containers import Container
from tests.modal.control_plane.plane import Plane

STATUS = pb.GenericResult
Outcomes = dict[str, Future[Any]]


@pytest.fixture(scope="module")
def interrupted(plane: Plane, probe: Any) -> Iterator[tuple[Container, Outcomes]]:
    """One container with an input of every kind, interrupted while all of them run."""
    assert probe.echo.remote("up") == "up"
    function = plane.function("probe", "Probe.*")
    (container,) = function.containers
    work = {
        "wait": probe.wait.remote,
        "answer at once": lambda: probe.answer_after.remote(0.0),
        "answer late": lambda: probe.answer_after.remote(1.5),
        "fail": probe.fail.remote,
        "pieces": lambda: list(probe.pieces.remote_gen()),
        "web": lambda: httpx.get(function.web_urls["web"], timeout=60),
    }
    with ThreadPoolExecutor(len(work)) as threads:
        started = {name: threads.submit(call) for name, call in work.items()}
        plane.wait_until(lambda: len(container.running) == len(work))
        plane.wait_until(lambda: sum(bool(one.call.data_out) for one in container.running.values()) == 2)
        container.interrupt()
        plane.wait_until(lambda: container.exit_code is not None)
        yield container, started
        plane.cancel("probe", "Probe.*")  # `wait` runs again, and would for ever


def test_what_takes_the_cancellation_as_a_sign_to_finish_is_sent_however_long_it_takes(interrupted: Any) -> None:
    _, outcomes = interrupted
    assert outcomes["answer at once"].result() == "answered after 0.0"
    assert outcomes["answer late"].result() == "answered after 1.5"
    assert outcomes["pieces"].result() == ["first", "last"]


def test_what_lets_the_cancellation_through_leaves_no_answer_and_runs_again(interrupted: Any, plane: Plane) -> None:
    container, outcomes = interrupted
    terminated = [item for _, item in container.sent if item.result.status == STATUS.GENERIC_STATUS_TERMINATED]
    assert len(terminated) == 1
    assert not outcomes["wait"].done()
    plane.wait_until(lambda: len(plane.function("probe", "Probe.*").containers) == 1)
    (again,) = plane.function("probe", "Probe.*").containers
    plane.wait_until(lambda: [one.attempts for one in again.running.values()] == [2])


def test_an_exception_after_the_cancellation_is_the_callers_answer(interrupted: Any) -> None:
    with pytest.raises(RuntimeError, match="interrupted"):
        interrupted[1]["fail"].result()


def test_an_http_response_is_cut_where_it_stands_whatever_the_app_sends_then(interrupted: Any) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        interrupted[1]["web"].result()


def test_exit_hooks_run_after_the_last_output_and_the_process_ends_well(interrupted: Any) -> None:
    container, _ = interrupted
    assert container.exit_code == 0
    assert container.log.count("exit hook") == 1


def test_a_cancelled_input_ends_alone(plane: Plane, probe: Any) -> None:
    call = probe.wait.spawn("who is cancelled")
    # an input that was handed over but has not begun is unknown to the entry point, which forgets the cancellation
    function = plane.function("probe", "Probe.*")
    plane.wait_until(lambda: any("who is cancelled waits" in each.log for each in function.containers))
    call.cancel()
    with pytest.raises(modal.exception.RemoteError):
        call.get(timeout=120)
    assert not any(call.object_id == one.call.id for one in running(plane))
    assert probe.echo.remote("still here") == "still here"


def running(plane: Plane) -> list[Any]:
    return [one for each in plane.function("probe", "Probe.*").containers for one in each.running.values()]
