"""`maskloop serve`: the app under uvicorn, with a shutdown that answers everyone.

Knows hosts, ports, signals. uvicorn is used because it is the server FastAPI is written for.
"""

from __future__ import annotations

import ipaddress
import signal
import threading
from collections.abc import Callable
from types import FrameType

import uvicorn

from engine.errors import RequestError
from engine.serve.app import create_app
from engine.serve.engine_protocol import ServedEngine
from engine.serve.heap import share_heap
from engine.serve.lifecycle import EngineSlot
from engine.serve.service import Service
from engine.serve.settings import ServeSettings
from engine.serve.watchdog import Watchdog


def serve(
    factory: Callable[[], ServedEngine],
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    insecure: bool = False,
    settings: ServeSettings | None = None,
) -> int:
    """Listen at once, load `factory()` beside it, return the exit code when a signal has ended it.

    RequestError where strangers could use the GPU: a host other than loopback without keys and without `insecure`.
    """
    settings = settings or ServeSettings.from_env()
    refuse_open_host(host, settings, insecure=insecure)
    share_heap()
    service = Service(EngineSlot(factory), settings)
    server = GracefulServer(service, host, port)
    Watchdog(service).start()
    server.run()
    return 0 if server.started else 1


def refuse_open_host(host: str, settings: ServeSettings, *, insecure: bool) -> None:
    """RequestError unless the host is loopback, keys are set, or the operator insists."""
    if settings.api_keys or insecure or is_loopback(host):
        return
    raise RequestError(
        f"--host {host} is open to strangers: set MASKLOOP_API_KEYS, or insist with --insecure", param="host"
    )


def is_loopback(host: str) -> bool:
    """`localhost` and addresses of the loopback range; any other name may resolve anywhere."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class GracefulServer(uvicorn.Server):
    """On the first signal: refuse new requests, let what runs finish, cancel the rest after `drain_s`, then stop."""

    def __init__(self, service: Service, host: str, port: int) -> None:
        self._service = service
        drain = service.settings.drain_s
        super().__init__(
            uvicorn.Config(
                create_app(service),
                host=host,
                port=port,
                log_level="warning",
                access_log=False,
                timeout_graceful_shutdown=int(drain) + 10,
            )
        )

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - uvicorn's signature
        """Called by uvicorn for SIGINT and SIGTERM. A second SIGINT stops at once.

        uvicorn's own handler would raise the signal again after the shutdown; an orderly stop exits 0 instead.
        """
        if self.should_exit:
            self.force_exit = sig == signal.SIGINT
            return
        self._service.drain()
        cancel = threading.Timer(self._service.settings.drain_s, self._service.cancel_all)
        cancel.daemon = True
        cancel.start()
        self.should_exit = True
