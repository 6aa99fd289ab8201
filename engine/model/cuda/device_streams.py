"""Streams, events, pinned memory and captured graphs of one CUDA device, or their plain stand-ins on a CPU.

The stand-ins run everything at once, in order, so that the runner built on them can be tested without a GPU. Not
thread-safe.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from engine.model.kernels.compiling import Compilers


class DeviceStreams:
    """One device's main stream and the side stream that what a step is given travels on."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.cuda = device.type == "cuda"
        self.main: Any = torch.cuda.Stream(device) if self.cuda else None
        self.side: Any = torch.cuda.Stream(device) if self.cuda else None
        self._pool: Any = torch.cuda.graph_pool_handle() if self.cuda else None

    @property
    def name(self) -> str:
        return torch.cuda.get_device_name(self.device) if self.cuda else "cpu"

    def on_main(self) -> AbstractContextManager[Any]:
        return torch.cuda.stream(self.main) if self.cuda else nullcontext()

    def on_side(self) -> AbstractContextManager[Any]:
        return torch.cuda.stream(self.side) if self.cuda else nullcontext()

    def event(self) -> Any:
        return torch.cuda.Event(enable_timing=True) if self.cuda else None

    def record(self, event: Any, *, side: bool = False) -> None:
        if event is not None:
            event.record(self.side if side else self.main)

    def main_waits(self, event: Any) -> None:
        if event is not None:
            self.main.wait_event(event)

    def side_waits(self, event: Any) -> None:
        if event is not None:
            self.side.wait_event(event)

    @staticmethod
    def finish(event: Any) -> None:
        """Block until the event has happened."""
        if event is not None:
            event.synchronize()

    @staticmethod
    def happened(event: Any) -> bool:
        """Whether the device has come to the event."""
        return event is None or bool(event.query())

    @staticmethod
    def microseconds(first: Any, second: Any) -> float:
        """Between two events that have happened; 0 on a CPU."""
        return 0.0 if first is None else float(first.elapsed_time(second)) * 1e3

    def host(self, *size: int, dtype: torch.dtype) -> Tensor:
        """Zeros on the host, pinned where there is a device to copy them to."""
        return torch.zeros(size, dtype=dtype, pin_memory=self.cuda)

    def capture(
        self, work: Callable[[], None], rehearsal: AbstractContextManager[Any] | None = None
    ) -> Callable[[], None]:
        """`work` as one graph that replays on the current stream; it is run once before, inside `rehearsal`, so that
        every kernel is compiled and loaded."""
        if not self.cuda:
            return work
        with torch.cuda.stream(self.main):
            with rehearsal or nullcontext():
                work()
            self.main.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=self._pool, stream=self.main):
                work()
        replay: Callable[[], None] = graph.replay
        return replay

    def compile(self, works: Sequence[Callable[[], None]], compilers: Compilers | None = None) -> float:
        """Compile every kernel that the works launch, side by side; gives the seconds it took. What fails here
        compiles, or shows its error, when the work is captured."""
        started = time.perf_counter()
        if self.cuda:
            from engine.model.kernels.compiling import collect, compile_kernels

            def launch() -> None:
                for work in works:
                    work()

            with torch.cuda.stream(self.main):
                jobs = collect(launch)
            self.main.synchronize()
            compile_kernels(jobs, compilers)
        return time.perf_counter() - started

    def free_bytes(self) -> int:
        """Memory that is left on the device; a large number on a CPU."""
        return torch.cuda.mem_get_info(self.device)[0] if self.cuda else 1 << 40

    def synchronize(self) -> None:
        if self.cuda:
            torch.cuda.synchronize(self.device)
