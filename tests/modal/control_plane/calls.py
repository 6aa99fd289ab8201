"""A function call: its inputs, their outputs, and the two streams beside it (`data_in`, `data_out`).

Whoever waits for a change waits on `changed`; all of it lives on the plane's event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field

from modal_proto import api_pb2 as pb

from tests.modal.control_plane.uploads import new_id

DONE = pb.GenericResult


@dataclass(eq=False)
class Input:
    """One unit of work. `retry_count` grows with every attempt after a failure, not after a preemption."""

    call: Call
    index: int
    payload: pb.FunctionInput
    id: str = field(default_factory=lambda: new_id("in"))
    retry_count: int = 0
    attempts: int = 0
    """How often a container was given it."""
    cancelled: bool = False

    def end(self, status: DONE.GenericStatus.ValueType, message: str = "") -> None:
        """An output that no container wrote."""
        result = pb.GenericResult(status=status, exception=message)
        self.call.put(self, pb.FunctionPutOutputsItem(input_id=self.id, result=result))


@dataclass(eq=False)
class Call:
    """What `.remote()`, `.spawn()` or one HTTP request made."""

    function_id: str
    invocation: int
    id: str = field(default_factory=lambda: new_id("fc"))
    inputs: list[Input] = field(default_factory=list)
    outputs: dict[int, pb.FunctionGetOutputsItem] = field(default_factory=dict)
    data_in: dict[int, pb.DataChunk] = field(default_factory=dict)
    data_out: dict[int, pb.DataChunk] = field(default_factory=dict)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def wait(self, timeout: float | None = None) -> None:
        """Until something changes, or the time is over."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), timeout)

    def add(self, item: pb.FunctionPutInputsItem) -> Input:
        self.inputs.append(made := Input(self, item.idx, item.input))
        return made

    def put(self, one: Input, item: pb.FunctionPutOutputsItem) -> None:
        """The first output of an input counts."""
        if one.index not in self.outputs:
            self.outputs[one.index] = pb.FunctionGetOutputsItem(
                result=item.result, idx=one.index, input_id=one.id, data_format=item.data_format
            )
            self.notify()

    def put_data(self, stream: dict[int, pb.DataChunk], chunks: list[pb.DataChunk]) -> None:
        for chunk in chunks:
            stream[chunk.index] = chunk
        self.notify()

    async def data(self, stream: dict[int, pb.DataChunk], after: int) -> AsyncIterator[pb.DataChunk]:
        """Chunks in order, for as long as somebody listens."""
        while True:
            while after + 1 not in stream:
                await self.wait()
            after += 1
            yield stream[after]

    @property
    def unfinished(self) -> int:
        return len(self.inputs) - len(self.outputs)
