"""Copies on the side stream overwrite nothing that is still read, and nothing is read before it has arrived.

Two streams with clocks stand in for the device's: an event carries what its stream had done, who waits for it has done
that too.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from engine.interfaces import FROM_DEVICE, RowInput
from engine.model.cuda import cuda_runner
from engine.model.cuda.device_streams import DeviceStreams
from tests.kernels.test_cuda_runner import greedy, make

Clock = dict[str, int]


class Watched(DeviceStreams):
    """Streams that note which of their works has which others behind it."""

    def __init__(self, device: Any) -> None:
        super().__init__(device)
        self.current = "main"
        self.clocks: dict[str, Clock] = {"main": {}, "side": {}}
        self.works: list[tuple[str, str, int, Clock]] = []

    @contextmanager
    def _on(self, stream: str) -> Iterator[None]:
        before, self.current = self.current, stream
        yield
        self.current = before

    def on_main(self) -> Any:
        return self._on("main")

    def on_side(self) -> Any:
        return self._on("side")

    def event(self) -> Any:
        return {}

    def record(self, event: Any, *, side: bool = False) -> None:
        event.clear()
        event.update(self.clocks["side" if side else "main"])

    def main_waits(self, event: Any) -> None:
        self._wait("main", event)

    def side_waits(self, event: Any) -> None:
        self._wait("side", event)

    finish = staticmethod(lambda event: None)
    microseconds = staticmethod(lambda first, second: 0.0)

    def _wait(self, stream: str, event: Clock) -> None:
        for other, count in event.items():
            self.clocks[stream][other] = max(count, self.clocks[stream].get(other, 0))

    def work(self, name: str) -> None:
        clock = self.clocks[self.current]
        clock[self.current] = clock.get(self.current, 0) + 1
        self.works.append((name, self.current, clock[self.current], dict(clock)))

    def noting(self, name: str, function: Any) -> Any:
        def noted(*arguments: Any) -> Any:
            self.work(name)
            return function(*arguments)

        return noted


def behind(first: tuple[str, str, int, Clock], second: tuple[str, str, int, Clock]) -> bool:
    return second[3].get(first[1], 0) >= first[2]


@pytest.mark.parametrize("masked", [False, True])
def test_a_step_waits_for_what_it_reads_and_the_next_for_what_it_overwrites(
    masked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda_runner, "DeviceStreams", Watched)
    runner, _ = make("nf4", batch=1)
    machine: Any = runner._machine
    runner._input.fill = machine.noting("given", runner._input.fill)  # type: ignore[method-assign]
    runner._work = lambda path: machine.noting("forward", type(runner)._work(runner, path))  # type: ignore[method-assign]
    for name in ("stage", "copy_mask", "run"):
        monkeypatch.setattr(runner._sampler, name, machine.noting(name, getattr(runner._sampler, name)))
    mask = runner._sampler.buffers.bitmask[:1].clone().fill_(-1) if masked else None
    runner.forward([RowInput(0, [3, 4], 0)])
    for position in range(2, 12):
        runner.sample(greedy([0], bitmask=mask))
        runner.forward([RowInput(0, [FROM_DEVICE], position)])  # before the host reads the token, as the engine does
        runner.wait()
    steps = {name: [work for work in machine.works if work[0] == name] for name in ("given", "forward", "stage", "run")}
    steps["stage"] = [work for work in machine.works if work[0] == ("copy_mask" if masked else "stage")]
    for copied, read in (("given", "forward"), ("stage", "run")):
        assert all(behind(copy, reader) for copy, reader in zip(steps[copied], steps[read], strict=True))
        assert all(behind(reader, copy) for reader, copy in zip(steps[read], steps[copied][1:], strict=False))
    assert not behind(steps["run"][0], steps["given"][1]), "the step's integers travel while the one before is sampled"
