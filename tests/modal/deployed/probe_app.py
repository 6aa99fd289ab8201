"""A deployment without an engine, to see what Modal's entry point does around a signal or a cancellation."""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
from pathlib import Path
from typing import Any

import modal

app = modal.App("probe")
FOR_EVER_S = 600


@app.cls(image=modal.Image.debian_slim(python_version="3.12"), max_containers=1)
@modal.concurrent(max_inputs=20)
class Probe:
    """Methods differ in what they do when their task is cancelled."""

    @modal.exit()
    def leave(self) -> None:
        print("exit hook", flush=True)

    @modal.method()
    async def wait(self, name: str = "") -> str:
        print(f"{name} waits", flush=True)
        await asyncio.sleep(FOR_EVER_S)
        return "waited"

    @modal.method()
    async def look(self, *paths: str) -> dict[str, Any]:
        """What a container is made of."""
        found = importlib.metadata.distributions()
        return {
            "there": [path for path in paths if Path(path).exists()],
            "environment": sorted(os.environ),
            "installed": sorted(each.metadata["Name"] for each in found),
            "folder": str(Path.cwd()),
            "home": sorted(path.name for path in Path.cwd().iterdir()),
        }

    @modal.method()
    async def echo(self, text: str) -> str:
        return text

    @modal.method()
    async def answer_after(self, seconds: float) -> str:
        """Takes the cancellation as a sign to finish."""
        try:
            await asyncio.sleep(FOR_EVER_S)
        except asyncio.CancelledError:
            await asyncio.sleep(seconds)
        return f"answered after {seconds}"

    @modal.method()
    async def fail(self) -> None:
        try:
            await asyncio.sleep(FOR_EVER_S)
        except asyncio.CancelledError:
            raise RuntimeError("interrupted") from None

    @modal.method(is_generator=True)
    async def pieces(self) -> Any:
        yield "first"
        try:
            await asyncio.sleep(FOR_EVER_S)
        except asyncio.CancelledError:
            yield "last"

    @modal.asgi_app()
    def web(self) -> Any:
        async def application(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] != "http":
                return
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"first", "more_body": True})
            try:
                await asyncio.sleep(FOR_EVER_S)
            except asyncio.CancelledError:
                await send({"type": "http.response.body", "body": b"last", "more_body": False})

        return application
