"""The plane itself: an event loop in a thread, the servers on it, and the doors that tests use.

Everything below `Plane` runs on that loop; a test calls `plane.run(coroutine)` or one of the plain methods.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import modal
from grpclib.server import Server
from modal_proto import api_pb2 as pb

from tests.modal.control_plane import apps, web
from tests.modal.control_plane.apps import App
from tests.modal.control_plane.calls import Call
from tests.modal.control_plane.containers import Container
from tests.modal.control_plane.control_rpcs import ContainerRpcs, ControlRpcs
from tests.modal.control_plane.environments import Environment
from tests.modal.control_plane.functions import Function
from tests.modal.control_plane.launcher import Launcher, socket_of
from tests.modal.control_plane.uploads import Uploads, new_id

ROOT = Path(__file__).resolve().parents[3]
TOKEN = ("ak-plane", "as-plane")
PATIENCE_S = 300
"""How long anything may take: a container starts in five seconds, on a machine full of others in a minute."""


class Plane:
    """Start with `with Plane(folder) as plane`; what it started ends with the block."""

    def __init__(
        self,
        folder: Path,
        environments: Mapping[frozenset[str], Environment] | None = None,
        *,
        namespaces: bool = True,
        strict: bool = True,
    ) -> None:
        self.folder, self.uploads = folder, Uploads(folder / "uploads")
        self.launcher = Launcher(self.uploads, dict(environments or {}), namespaces=namespaces, strict=strict)
        self.apps: dict[str, App] = {}
        self.deployed: dict[str, App] = {}
        self.functions: dict[str, Function] = {}
        self.calls: dict[str, Call] = {}
        self.dict_fails = False
        self.container_env: dict[str, str] = {}
        """Variables that the platform, not the image, gives every container from now on."""
        self.container_modules: dict[str, str] = {}
        """Files by module name that the platform puts behind everything else on the path of containers from now on."""
        self.url = self.blob_url = ""
        self.loop = asyncio.new_event_loop()
        self._web = web.Bridges(self)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._thread = threading.Thread(target=self.loop.run_forever, name="plane", daemon=True)

    # ---- for tests ------------------------------------------------------------------------------------------

    def __enter__(self) -> Plane:
        self._thread.start()
        self.run(self._serve())
        self.client = modal.Client(self.url, pb.CLIENT_TYPE_CLIENT, TOKEN)
        self.client.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.client.__exit__(None, None, None)
        self.run(self._close())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()

    def run(self, work: Coroutine[Any, Any, Any], timeout: float | None = PATIENCE_S) -> Any:
        """The result of a coroutine on the plane's loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(timeout)

    def cli(self, *arguments: str, timeout: float = PATIENCE_S, **settings: str) -> subprocess.CompletedProcess[str]:
        """`modal ARGUMENTS` as a user runs it in the checkout, with these MASKLOOP_ settings and nothing else."""
        return subprocess.run(
            [sys.executable, "-m", "modal", *arguments],
            cwd=ROOT, env=self.client_env(settings), capture_output=True, text=True, timeout=timeout, check=False,
        )  # fmt: skip

    def client_env(self, settings: Mapping[str, str]) -> dict[str, str]:
        """The environment of a machine that has nothing but a token for this plane."""
        return {
            "PATH": os.environ["PATH"], "HOME": str(self.folder), "LANG": "C.UTF-8", "COLUMNS": "200",
            "MODAL_CONFIG_PATH": os.devnull, "MODAL_SERVER_URL": self.url, "MODAL_TOKEN_ID": TOKEN[0],
            "MODAL_TOKEN_SECRET": TOKEN[1], "MODAL_IMAGE_BUILDER_VERSION": "2026.10", **settings,
        }  # fmt: skip

    def deploy(self, *, file: str = "modal_app.py", **settings: str) -> str:
        """`modal deploy modal_app.py`; what it printed."""
        done = self.cli("deploy", file, **settings)
        if done.returncode:
            raise RuntimeError(done.stdout + done.stderr)
        return done.stdout

    def function(self, app: str, tag: str) -> Function:
        """A deployed function by its tag: `Engine.*` is the class."""
        return self.functions[self.deployed[app].functions[tag]]

    def cls(self, app: str, name: str = "Engine") -> Any:
        """An instance of the deployed class, as any caller gets it."""
        return modal.Cls.from_name(app, name, client=self.client)()

    def dict(self, name: str) -> dict[Any, Any]:
        """What a `modal.Dict` holds now."""
        held = self.uploads.dicts[name]
        return {pickle.loads(key): pickle.loads(value) for key, value in held.items()}

    def start(self, app: str, tag: str = "Engine.*") -> Container:
        """One more container of a function."""
        return self.run(self.function(app, tag).add_container())

    def cancel(self, app: str, tag: str = "Engine.*") -> None:
        """Cancel every call of a function that has no output yet."""
        for call in [each for each in self.calls.values() if each.unfinished]:
            if call.function_id == self.function(app, tag).id:
                self.run(self.function(app, tag).cancel(call))

    def wait_until(self, condition: Callable[[], Any], timeout: float = PATIENCE_S) -> None:
        """Poll until the condition holds."""
        until = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > until:
                raise TimeoutError(f"not within {timeout} s: {inspect.getsource(condition).strip()}")
            time.sleep(0.02)

    # ---- on the loop ----------------------------------------------------------------------------------------

    async def _serve(self) -> None:
        server = Server([ControlRpcs(self)])
        await server.start("127.0.0.1", 0)
        self._server = server
        port = server._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
        self.url = f"http://127.0.0.1:{port}"
        self.blob_url = await self._web.serve_blobs(self.uploads.blobs)

    async def _close(self) -> None:
        for function in self.functions.values():
            for container in function.containers:
                container.stopping = True
                container.kill()
        while any(function.containers for function in self.functions.values()):
            await asyncio.sleep(0.02)
        await self._web.close()
        self._server.close()
        for task in self._tasks:
            task.cancel()

    def check_dict(self) -> None:
        if self.dict_fails:
            raise RuntimeError("the test asked Dict to fail")

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def define(self, app_id: str, existing: str, definition: pb.Function) -> Function:
        """A new function, or the next version of one; its web endpoints get their addresses."""
        identity = existing or new_id("fu")
        function = self.functions.get(identity)
        if function is None:
            function = self.functions[identity] = Function(identity, app_id, definition, self.start_container)
        function.definition = definition
        definition.is_checkpointing_function = definition.checkpointing_enabled  # the server's word for it
        endpoints = {name: method.webhook_config for name, method in definition.method_definitions.items()}
        for name, config in {"": definition.webhook_config, **endpoints}.items():
            if config.type:
                function.web_urls[name] = await self._web.serve(function, name, config)
        return function

    async def publish(self, request: Any) -> None:
        """The app answers with what was uploaded; containers of the version before take no more inputs."""
        app = self.apps[request.app_id]
        app.functions, app.classes = dict(request.function_ids), dict(request.class_ids)
        app.detached = request.app_state == pb.APP_STATE_DETACHED
        if request.app_state == pb.APP_STATE_DEPLOYED:
            app.name = request.name
            self.deployed[request.name] = app
        for identity in app.functions.values():
            for container in self.functions[identity].taking:
                await self.functions[identity].stop(container)

    async def disconnect(self, app_id: str, reason: pb.AppDisconnectReason.ValueType) -> None:
        """The end of a `modal run`: its containers end with it. A deployed app stays, a detached one if interrupted."""
        app = self.apps[app_id]
        if app in self.deployed.values():
            return
        if app.detached and reason == pb.APP_DISCONNECT_REASON_KEYBOARD_INTERRUPT:
            return
        for function in [each for each in self.functions.values() if each.app_id == app_id]:
            function.stopped = True
            for container in function.containers:
                container.interrupt()
        app.done = True

    async def start_container(self, function: Function) -> Container:
        """A socket of its own first, then the entry point; when that has ended, the function hears of it."""
        container = Container(identity := new_id("ta"), self.folder / "c" / identity)
        (container.folder / "__modal").mkdir(parents=True)
        app = self.apps[function.app_id]
        app.containers_seen.append(str(container.folder / "log"))
        server = Server([ContainerRpcs(self, function, container)])
        await server.start(path=str(socket_of(container)))
        arguments = pb.ContainerArguments(
            task_id=container.id, function_id=function.id, app_id=function.app_id, function_def=function.definition,
            environment_name="main", app_layout=apps.layout(app, self.functions), checkpoint_id=new_id("ch"),
        )  # fmt: skip
        self.launcher.start(container, arguments, self.container_env, self.container_modules)
        self.spawn(self._watch(function, container, server))
        return container

    async def _watch(self, function: Function, container: Container, server: Server) -> None:
        await container.wait()
        server.close()
        await function.gone(container)

    async def logs(self, app: App) -> AsyncIterator[str]:
        """What the app's containers write, until the app has ended."""
        read: dict[str, int] = {}
        done = False
        while not done:
            done = app.done
            for path in list(app.containers_seen):
                with suppress(OSError), Path(path).open("rb") as log:
                    log.seek(read.get(path, 0))
                    if data := log.read():
                        read[path] = log.tell()
                        yield data.decode(errors="replace")
            if not done:
                await asyncio.sleep(0.05)

    def maps(self, container: Container) -> str:
        return Path(f"/proc/{container.pid}/maps").read_text()
