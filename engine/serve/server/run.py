"""`maskloop serve`: the app under uvicorn, with connections that are watched and a shutdown that answers everyone.

Knows hosts, ports, signals. uvicorn is used because it is the server FastAPI is written for.
"""

from __future__ import annotations

import ipaddress
import os
import resource
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI

from engine.errors import EngineFailure, RequestError
from engine.serve.allocator import share_heap
from engine.serve.app import create_app
from engine.serve.server.connection import MOST_HEADER_BYTES, Connection
from engine.serve.server.connection_limits import ConnectionLimits
from engine.serve.service.engine_protocol import ServedEngine
from engine.serve.service.engine_slot import EngineSlot
from engine.serve.service.service import Service
from engine.serve.service.watchdog import Watchdog
from engine.serve.settings import ServeSettings

STOP_S = 10.0
"""After the drain time: for answers on the wire, connections, the engine's threads. Then the system ends it all."""
OTHER_FILES = 256
"""File descriptors beside those of connections: workers, weights, logs."""
ACCEPT_AT_ONCE = 16
"""New connections taken in one turn of the event loop: a millisecond. What those sent is read before more are taken."""
UNACCEPTED = 4096
"""New connections that the system keeps for us meanwhile. It drops those above without a word to the client."""
SILENT_S = 1
"""Before the system hands over a connection that has sent nothing, while many have no header."""


def serve(
    factory: Callable[[], ServedEngine],
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    insecure: bool = False,
    settings: ServeSettings | None = None,
) -> int:
    """Listen at once, load `factory()` beside it, return the exit code when SIGTERM has ended it.

    KeyboardInterrupt when SIGINT has, once everything is closed. RequestError where strangers could use the GPU: a host
    other than loopback without keys and without `insecure`.
    """
    settings = settings or ServeSettings.from_env()
    refuse_open_host(host, settings, insecure=insecure)
    settings = replace(settings, max_connections=allowed_connections(settings.max_connections))
    share_heap()
    service = Service(EngineSlot(factory), settings)
    server = GracefulServer(service, host, port)
    Watchdog(service).start()
    try:
        server.run()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    if server.interrupted:
        raise KeyboardInterrupt
    return 0 if server.started else 1


def allowed_connections(wanted: int) -> int:
    """As many of the wanted connections as the system lets a process have; raises the soft limit for them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted + OTHER_FILES:
        soft = wanted + OTHER_FILES if hard == resource.RLIM_INFINITY else min(wanted + OTHER_FILES, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return wanted if soft == resource.RLIM_INFINITY else max(1, min(wanted, soft - OTHER_FILES))


def refuse_open_host(host: str, settings: ServeSettings, *, insecure: bool) -> None:
    """RequestError unless the host is loopback, keys are set, or the operator insists."""
    if settings.api_keys or insecure or is_loopback(host):
        return
    raise RequestError(
        f"--host {host} is open to strangers: set MASKLOOP_API_KEYS, or insist with --insecure", param="host"
    )


def refuse_taken_port(host: str, port: int) -> None:
    """EngineFailure where nobody can listen there, before a model is loaded for it."""
    try:
        socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
        raise EngineFailure(
            f"cannot listen at {host}, port {port}: {reason}; name another with --port or --host", param="port"
        ) from None


def is_loopback(host: str) -> bool:
    """`localhost` and addresses of the loopback range; any other name may resolve anywhere."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class Server(uvicorn.Server):
    """uvicorn's behind connections that are counted, timed and read strictly, with room for new ones while the event
    loop is busy; no web sockets."""

    def __init__(self, app: FastAPI, **options: Any) -> None:
        settings = {
            "http": partial(Connection, limits=ConnectionLimits(app.state.service.settings, self._defer)),
            "ws": "none",
            "h11_max_incomplete_event_size": MOST_HEADER_BYTES,
            "backlog": ACCEPT_AT_ONCE,
            "log_level": "error",
            "access_log": False,
        }
        super().__init__(uvicorn.Config(app, **{**settings, **options}))

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """asyncio has one number for both, how many wait and how many are taken at once."""
        await super().startup(sockets)
        for listener in self._listeners():
            with listener:
                listener.listen(UNACCEPTED)

    def _defer(self, on: bool) -> None:
        """Whether the system keeps a new connection to itself until it has sent something, or for `SILENT_S`: then no
        client whose header is on its way is the oldest without one. Does nothing where the system cannot."""
        for listener in self._listeners() if hasattr(socket, "TCP_DEFER_ACCEPT") else []:
            with listener:
                listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, SILENT_S if on else 0)

    def _listeners(self) -> list[socket.socket]:
        """The sockets that asyncio shows part of only, once more, to be closed."""
        return [socket.socket(fileno=os.dup(one.fileno())) for server in self.servers for one in server.sockets]


class GracefulServer(Server):
    """On the first signal: refuse new requests, let what runs finish, cancel the rest after `drain_s`, then stop.

    The port stays open until then, so that whoever comes is told 503. `drain_s` + `STOP_S` after the signal nothing is
    left, whatever hangs: then the system's alarm ends the process.
    """

    def __init__(self, service: Service, host: str, port: int) -> None:
        self._service = service
        self._stop_at: float | None = None
        self.interrupted = self._told = False
        super().__init__(create_app(service), host=host, port=port, timeout_graceful_shutdown=int(STOP_S / 2))

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - uvicorn's signature
        """Called by uvicorn for SIGINT and SIGTERM. A second SIGINT stops at once.

        uvicorn's own handler would raise the signal again after the shutdown; an orderly stop ends here instead.
        """
        self.interrupted |= sig == signal.SIGINT
        if self._stop_at is not None:
            if sig == signal.SIGINT:
                self.should_exit = self.force_exit = True
            return
        drain_s = self._service.settings.drain_s
        self._stop_at = time.monotonic() + drain_s
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, drain_s + STOP_S)
        self._service.drain()

    async def on_tick(self, counter: int) -> bool:
        """uvicorn asks ten times a second whether to stop."""
        if self._stop_at is not None and not self.should_exit:
            if not self._told:  # not in the signal's handler, which may interrupt the writing of another line
                self._told = True
                self._service.accounting.log.write(
                    "draining", in_flight=len(self._service.in_flight), drain_s=self._service.settings.drain_s
                )
            over = time.monotonic() >= self._stop_at
            if over:
                self._service.cancel_all()
            self.should_exit = over or not self._service.in_flight
        return await super().on_tick(counter)
