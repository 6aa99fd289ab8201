"""What one Modal container runs: engine, service, watchdog, and the state that the health function reads.

Knows the order of a container's life. Does not import modal: `modal_app.py` hands in the volume's path, a mapping for
the state and a way to be replaced, so that all of it runs in a test.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, MutableMapping
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from engine.config import EngineConfig
from engine.serve.app import create_app
from engine.serve.deployment import Deployment
from engine.serve.engine_protocol import ServedEngine
from engine.serve.functions import Answer, Functions
from engine.serve.heap import share_heap
from engine.serve.json_log import renew_instance
from engine.serve.lifecycle import EngineSlot
from engine.serve.service import Service, common_constraints
from engine.serve.settings import ServeSettings
from engine.serve.watchdog import Watchdog, leave

STATE_KEY = "engine"
Factory = Callable[[EngineConfig], ServedEngine]


class ModalService:
    """`load` may be called twice (before and after a snapshot); only the first loads."""

    def __init__(
        self,
        deployment: Deployment,
        weights: str,
        states: MutableMapping[str, Any],
        *,
        on_wedged: Callable[[], None] = leave,
        factory: Factory | None = None,
    ) -> None:
        share_heap()
        self._states, self._on_wedged = states, on_wedged
        config = engine_config(deployment, Path(weights))
        self.service = Service(EngineSlot(lambda: (factory or load_engine)(config)), serve_settings(deployment))
        self.functions = Functions(self.service)

    def load(self) -> None:
        """Weights, then the schemas that ship, then watching. Raises ModelError: the container must not serve."""
        renew_instance()
        if self.service.slot.state == "cold":
            self._tell("loading")
            self.service.slot.load()
            self.service.slot.get().warmup(common_constraints())
            self.service.identify()
        self._tell("ready", load_s=self.service.slot.load_s, **self.service.ledger.identity)
        self.service.ledger.log.write("loaded", load_s=self.service.slot.load_s, **self.service.ledger.identity)
        Watchdog(self.service, self._on_wedged).start()

    def app(self) -> FastAPI:
        """The ASGI app over the same engine, concurrency slots and metrics as the functions."""
        return create_app(self.service)

    def stop(self) -> None:
        """Finish what runs within the drain time, then close."""
        self.service.drain()
        until = time.monotonic() + self.service.settings.drain_s
        while self.service.in_flight and time.monotonic() < until:
            time.sleep(0.05)
        self.service.ledger.log.write("stopped")
        self.service.close()
        self._tell("cold")

    def _tell(self, state: str, **facts: Any) -> None:
        self._states[STATE_KEY] = {"state": state, "since": round(time.time(), 3), **facts}


def engine_config(deployment: Deployment, weights: Path) -> EngineConfig:
    """The checkpoint on the volume when there is one, else the model itself, quantised while it loads."""
    checkpoint = weights / deployment.checkpoint
    sizes: dict[str, Any] = {"max_sequence": deployment.max_sequence, "max_batch": deployment.max_batch}
    if checkpoint.is_dir():
        return EngineConfig(model=str(checkpoint), **sizes)
    named = {"model": deployment.model, "revision": deployment.revision or None}
    return EngineConfig.from_mapping({**named, "quantization": deployment.quantization, **sizes})


def serve_settings(deployment: Deployment) -> ServeSettings:
    """The environment's keys count only where keys are the chosen way in."""
    settings = ServeSettings.from_env(
        served_model_name=deployment.model, deadline_s=max(1.0, deployment.timeout - 20.0), answer_grace_s=10.0
    )
    return settings if deployment.auth == "bearer" else settings.without_keys()


def load_engine(config: EngineConfig) -> ServedEngine:
    """The real engine; imported here because it needs torch."""
    from engine import Engine

    return Engine(config)


def answer_here(request: dict[str, Any], factory: Factory = load_engine) -> Answer:
    """One function call answered in this process by the embedded model: the same path, without Modal."""
    service = Service(EngineSlot(lambda: factory(EngineConfig())))
    service.slot.load()
    try:
        return asyncio.run(Functions(service).generate(**request))
    finally:
        service.close()


def quantize_command(deployment: Deployment, to: str, weights: str) -> list[str]:
    """Arguments of `maskloop quantize` for the product's model and the folder that `engine_config` looks for."""
    target = Deployment(model=deployment.model, revision=deployment.revision, quantization=to)
    folder = f"{weights}/{target.checkpoint}"
    return [
        "quantize",
        deployment.model,
        "--revision",
        deployment.revision,
        "--to",
        to,
        "--out",
        folder,
        "--device",
        "cuda",
    ]
