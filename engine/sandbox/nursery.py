"""Fork servers and children of a pool: who is being started, who rests until a job of its session comes, who died."""

from __future__ import annotations

import json
import selectors
import time
from collections.abc import Callable

from engine.sandbox.fork_server import DONE
from engine.sandbox.processes import Child, ForkServer
from engine.sandbox.task import Job

_RESTING = 8
"""Children of one module that wait for another job; the one that has waited longest is ended first."""
_START_S = 120.0

Name = tuple[str, str]


class Nursery:
    """Used by the pool's thread. `heard(child, message)` and `lost(child, signal)` are called from its events."""

    def __init__(
        self,
        selector: selectors.BaseSelector,
        heard: Callable[[Child, bytes], None],
        lost: Callable[[Child, int], None],
    ) -> None:
        self._selector = selector
        self._heard = heard
        self._lost = lost
        self._contents: dict[Name, bytes] = {}
        self._servers: dict[str, ForkServer] = {}
        self._children: list[Child] = []
        self._resting: list[Child] = []

    @property
    def starting(self) -> bool:
        """Whether some process has been asked for and is not there yet."""
        return any(child.pid is None for child in self._children)

    def pids(self) -> list[int]:
        children = [child.pid for child in self._children if child.pid and not child.gone]
        return [server.process.pid for server in self._all_servers()] + children

    def prepare(self, module: str, name: str, content: bytes | None) -> None:
        if content is not None:
            self._contents[module, name] = content
        self._server(module, name)

    def idle(self, job: Job) -> Child | None:
        """The child of this session that has rested for the shortest time: it knows most."""
        found = [
            c for c in self._resting if (c.server.module, c.name, c.session) == (job.module, job.name, job.session)
        ]
        if not found:
            return None
        self._resting.remove(found[-1])
        return found[-1]

    def born(self, job: Job) -> Child:
        child = Child(self._server(job.module, job.name), job.name, job.session, job.setup)
        self._children.append(child)
        self._watch(child.channel.socket, lambda: self._read_child(child))
        return child

    def rest(self, child: Child) -> None:
        """Its job is done; it waits for the next one unless its fork server is gone."""
        if child.server is not self._server(child.server.module, child.name):
            self.kill(child)
            return
        self._resting.append(child)
        same = [other for other in self._resting if other.server.module == child.server.module]
        for other in same[:-_RESTING]:
            self.kill(other)

    def kill(self, child: Child) -> None:
        if child in self._children:
            self._children.remove(child)
            if not child.gone:
                self._selector.unregister(child.channel.socket)
            child.kill()
        if child in self._resting:
            self._resting.remove(child)

    def look(self) -> None:
        """Replace fork servers that are gone, stand still, or never got ready, while somebody waits for them."""
        now = time.monotonic()
        for server in self._all_servers():
            waiting = [child for child in self._children if child.server is server and child.pid is None]
            late = any(now - child.used_at > _START_S for child in waiting)
            if late or server.process.poll() is not None or (waiting and server.stopped()):
                self._end(server)

    def flush(self) -> None:
        """Send what could not be sent at once."""
        for server in self._all_servers():
            server.flush()
            self._attend(server.channel.socket, server.pending)
        for child in [child for child in self._children if not child.gone]:
            child.channel.flush()
            self._attend(child.channel.socket, child.channel.pending)

    def close(self) -> None:
        """End everything; what is asked for next begins afresh."""
        for child in list(self._children):
            self.kill(child)
        for server in self._all_servers():
            self._selector.unregister(server.channel.socket)
            server.end()
        self._servers = {}

    def _all_servers(self) -> list[ForkServer]:
        return list(self._servers.values())

    def _server(self, module: str, name: str) -> ForkServer:
        """The fork server for new children of this name; started and prepared if need be."""
        server = self._servers.get(module)
        if server is None:
            server = self._servers[module] = self._start(module)
        content = self._contents.get((module, name))
        if content is not None and name not in server.asked:
            server.prepare(name, content)
        return server

    def _start(self, module: str) -> ForkServer:
        server = ForkServer(module)
        self._watch(server.channel.socket, lambda: self._read_server(server))
        return server

    def _watch(self, end: object, call: Callable[[], None]) -> None:
        self._selector.register(end, selectors.EVENT_READ, call)  # type: ignore[arg-type]  # a socket

    def _attend(self, end: object, pending: bool) -> None:
        key = self._selector.get_key(end)  # type: ignore[arg-type]  # a socket
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if pending else 0)
        if key.events != wanted:
            self._selector.modify(end, wanted, key.data)  # type: ignore[arg-type]  # a socket

    def _read_child(self, child: Child) -> None:
        if child not in self._children or child.gone:  # it was ended by an event just before
            return
        for message in child.channel.read():
            if message is None:
                self._selector.unregister(child.channel.socket)
                child.gone = True
                if child.pid is None or child in self._resting:  # who rests ends when it holds too much
                    self._bury(child, 0)
            elif child.pid is None:
                child.born(int(message))
            elif child in self._children:
                self._heard(child, message)

    def _read_server(self, server: ForkServer) -> None:
        if server not in self._all_servers():
            return
        for message in server.channel.read():
            if message is None:
                self._end(server)
            elif message[:1] == DONE:
                pid, number = json.loads(message[1:])
                for child in [child for child in self._children if child.pid == pid]:
                    self._bury(child, number)

    def _bury(self, child: Child, number: int) -> None:
        """Its last words may still be on the way."""
        for message in () if child.gone else child.channel.read():
            if message is not None:
                self._heard(child, message)
        if child in self._children:
            self.kill(child)
            self._lost(child, number)

    def _end(self, server: ForkServer) -> None:
        """Kill a fork server and forget it; its children's jobs begin again elsewhere."""
        self._servers = {module: other for module, other in self._servers.items() if other is not server}
        children = [child for child in self._children if child.server is server]
        for child in children:
            self.kill(child)
        self._selector.unregister(server.channel.socket)
        server.end()
        for child in children:
            self._lost(child, 0)
