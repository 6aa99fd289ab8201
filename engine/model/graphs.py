"""Streams, events, pinned memory and captured graphs of one CUDA device, or their plain stand-ins on a CPU.

The stand-ins run everything at once, in order, so that the runner built on them can be tested without a GPU. Knows no
model. Not thread-safe.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

_COMPILERS = 16


class Machine:
    """One device's main stream and the side stream that masks travel on."""

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
    def microseconds(first: Any, second: Any) -> float:
        """Between two events that have happened; 0 on a CPU."""
        return 0.0 if first is None else float(first.elapsed_time(second)) * 1e3

    def host(self, *size: int, dtype: torch.dtype) -> Tensor:
        """Zeros on the host, pinned where there is a device to copy them to."""
        return torch.zeros(size, dtype=dtype, pin_memory=self.cuda)

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """`work` as one graph that replays on the current stream; it is run once before, to compile its kernels."""
        if not self.cuda:
            return work
        with torch.cuda.stream(self.main):
            work()
            self.main.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=self._pool, stream=self.main):
                work()
        replay: Callable[[], None] = graph.replay
        return replay

    def compile(self, works: Sequence[Callable[[], None]]) -> None:
        """Run every work once, side by side, so that their kernels compile on several cores. The works may share
        buffers and trample on each other's numbers. A failure here shows again when the work is captured."""

        def run(work: Callable[[], None]) -> None:
            with torch.inference_mode(), torch.cuda.stream(self.main):
                work()

        if self.cuda:
            with ThreadPoolExecutor(_COMPILERS) as pool:
                for future in [pool.submit(run, work) for work in works]:
                    future.exception()
            self.main.synchronize()

    def free_bytes(self) -> int:
        """Memory that is left on the device; a large number on a CPU."""
        return torch.cuda.mem_get_info(self.device)[0] if self.cuda else 1 << 40

    def synchronize(self) -> None:
        if self.cuda:
            torch.cuda.synchronize(self.device)
