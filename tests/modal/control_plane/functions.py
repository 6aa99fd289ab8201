"""A deployed function: the inputs that wait, the containers that take them, and how many containers there should be.

The rules are Modal's: a container asks for one input whenever it has a free slot; another container is started when
more inputs wait and run than the containers have slots for, up to `max_containers`; one that has had nothing to do for
`scaledown_window` is told to stop; what a container held when it died is given to another.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from modal_proto import api_pb2 as pb

from tests.modal.control_plane.calls import Call, Input
from tests.modal.control_plane.containers import Container

FAILED = (pb.GenericResult.GENERIC_STATUS_FAILURE, pb.GenericResult.GENERIC_STATUS_TIMEOUT)
MAX_CRASHES = 3
"""Starts that fail one after the other before waiting inputs fail too; Modal backs off and goes on for ever."""


@dataclass(eq=False)
class Function:
    """`definition` is what the client sent; `start` makes a container of it."""

    id: str
    app_id: str
    definition: pb.Function
    start: Callable[[Function], Awaitable[Container]]
    web_urls: dict[str, str] = field(default_factory=dict)
    """URL by method name; the function's own is at the empty name."""
    pending: deque[Input] = field(default_factory=deque)
    containers: list[Container] = field(default_factory=list)
    ended: list[Container] = field(default_factory=list)
    crashes: int = 0
    stopped: bool = False
    """Of an app that has ended: nothing is started any more."""
    arrived: asyncio.Condition = field(default_factory=asyncio.Condition)

    @property
    def slots(self) -> int:
        return self.definition.max_concurrent_inputs or 1

    @property
    def dependencies(self) -> Sequence[pb.ObjectDependency]:
        return self.definition.object_dependencies

    @property
    def taking(self) -> list[Container]:
        """Containers that are not on their way out."""
        return [each for each in self.containers if not each.stopping]

    async def submit(self, call: Call, item: pb.FunctionPutInputsItem) -> Input:
        self.pending.append(one := call.add(item))
        await self.notice()
        return one

    async def notice(self) -> None:
        """Something changed: wake those who wait for inputs, and start what is missing."""
        async with self.arrived:
            self.arrived.notify_all()
        if self.stopped:
            return
        busy = len(self.pending) + sum(len(each.running) for each in self.taking)
        wanted = min(-(-busy // self.slots), self.definition.concurrency_limit or 10)
        for _ in range(wanted - len(self.taking)):
            await self.add_container()

    async def add_container(self) -> Container:
        """Start one, asked for or not."""
        container = await self.start(self)
        self.containers.append(container)
        return container

    async def next_input(self, container: Container) -> Input | None:
        """The next input for this container; None tells it to stop."""
        window = self.definition.task_idle_timeout_secs or 60
        async with self.arrived:
            while not container.stopping:
                if self.pending:
                    one = self.pending.popleft()
                    one.attempts += 1
                    container.running[one.id] = one
                    return one
                try:
                    await asyncio.wait_for(self.arrived.wait(), window)
                except TimeoutError:
                    container.stopping = container.stopping or not container.running
        return None

    async def stop(self, container: Container) -> None:
        """No more inputs for it; it ends when those that it runs have ended."""
        container.stopping = True
        async with self.arrived:
            self.arrived.notify_all()

    def finish(self, container: Container, item: pb.FunctionPutOutputsItem) -> None:
        """An output; a failed attempt goes back in line while the function's retries last."""
        container.sent.append((time.monotonic(), item))
        one = container.running.get(item.input_id)
        if one is None:
            return
        terminated = item.result.status == pb.GenericResult.GENERIC_STATUS_TERMINATED
        if container.interrupted_at is not None and terminated and not one.cancelled:
            return  # nobody cancelled it: the preemption did, so it is given to another container
        del container.running[one.id]
        container.succeeded = True
        if item.result.status in FAILED and one.retry_count < self.definition.retry_policy.retries:
            one.retry_count += 1
            self.pending.append(one)
        else:
            one.call.put(one, item)

    async def fail_pending(self, result: pb.GenericResult) -> None:
        """A start failed: its error goes to everybody who waits."""
        while self.pending:
            one = self.pending.popleft()
            one.call.put(one, pb.FunctionPutOutputsItem(input_id=one.id, result=result))

    async def gone(self, container: Container) -> None:
        """The process has ended. What it held runs again elsewhere; what had begun to answer over HTTP cannot."""
        self.containers.remove(container)
        self.ended.append(container)
        self.crashes = 0 if container.succeeded or container.stopping else self.crashes + 1
        for one in reversed(container.running.values()):
            if one.cancelled:
                one.end(pb.GenericResult.GENERIC_STATUS_TERMINATED)
            elif one.payload.method_name in self.web_urls and one.call.data_out:
                one.end(pb.GenericResult.GENERIC_STATUS_INTERNAL_FAILURE, "the container was lost")
            else:
                self.pending.appendleft(one)
        container.running.clear()
        if self.crashes >= MAX_CRASHES:
            message = f"{self.crashes} containers ended without an answer, exit code {container.exit_code}"
            status = pb.GenericResult.GENERIC_STATUS_INTERNAL_FAILURE
            await self.fail_pending(pb.GenericResult(status=status, exception=message))
            self.crashes = 0
        await self.notice()

    async def cancel(self, call: Call) -> None:
        """What waits is taken out; what runs is cancelled through its container's heartbeat."""
        for one in call.inputs:
            one.cancelled = True
            if one in self.pending:
                self.pending.remove(one)
                one.end(pb.GenericResult.GENERIC_STATUS_TERMINATED)
        for container in self.containers:
            container.cancel([one.id for one in call.inputs if one.id in container.running])
