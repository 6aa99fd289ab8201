"""One container: a process of Modal's own entry point, its log, and what it is running.

Signals reach the entry point itself: building the root replaces the process, it does not fork.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from modal_proto import api_pb2 as pb

from tests.modal.control_plane.calls import Input


@dataclass(eq=False)
class Container:
    """Made by the plane's launcher; `folder` is its own and holds log and sockets."""

    id: str
    folder: Path
    process: subprocess.Popen[bytes] | None = None
    running: dict[str, Input] = field(default_factory=dict)
    stopping: bool = False
    succeeded: bool = False
    """Whether it has ever sent an output."""
    sent: list[tuple[float, pb.FunctionPutOutputsItem]] = field(default_factory=list)
    """Every output that arrived, with the time."""
    interrupted_at: float | None = None
    exit_code: int | None = None
    mapped_at_checkpoint: str | None = None
    """/proc/PID/maps when the container asked for its memory snapshot: which libraries the snapshot would hold."""
    log_at_checkpoint: str = ""
    _to_cancel: asyncio.Queue[str] = field(default_factory=asyncio.Queue)

    @property
    def log(self) -> str:
        path = self.folder / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def cancel(self, input_ids: Sequence[str]) -> None:
        for each in input_ids:
            self._to_cancel.put_nowait(each)

    async def cancelled(self, timeout: float) -> list[str]:
        """Inputs to cancel, as the heartbeat's long poll tells them; empty when the time is over."""
        try:
            found = [await asyncio.wait_for(self._to_cancel.get(), timeout)]
        except TimeoutError:
            return []
        while not self._to_cancel.empty():
            found.append(self._to_cancel.get_nowait())
        return found

    def send_signal(self, number: signal.Signals) -> None:
        """To the entry point alone."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def interrupt(self) -> None:
        """What preemption sends; the container takes no more inputs."""
        self.stopping, self.interrupted_at = True, time.monotonic()
        self.send_signal(signal.SIGINT)

    def kill(self) -> None:
        """The whole container, helpers of the process included."""
        if self.process is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)

    async def wait(self) -> int:
        """Until the entry point has ended; nothing of a container outlives it."""
        assert self.process is not None
        while (code := self.process.poll()) is None:
            await asyncio.sleep(0.02)
        self.kill()
        self.exit_code = code
        return code
