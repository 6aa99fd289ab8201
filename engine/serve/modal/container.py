"""What one Modal container runs: engine, service, watchdog, and the entry that the health function reads.

Does not import modal: `modal_app.py` hands in the volume's path, a mapping for the entries and a way to be replaced, so
that all of it runs in a test.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, MutableMapping
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from engine.config import EngineConfig
from engine.serve.allocator import share_heap
from engine.serve.app import create_app
from engine.serve.lift.functions import Answer, Functions
from engine.serve.log.json_log import renew_instance
from engine.serve.modal.deployment import Deployment
from engine.serve.modal.heartbeat import Heartbeat
from engine.serve.modal.preemption import PreemptibleService, ending_at_interrupt, leave_at_once
from engine.serve.service.engine_protocol import ServedEngine
from engine.serve.service.engine_slot import EngineSlot
from engine.serve.service.health import health
from engine.serve.service.service import Service, common_constraints
from engine.serve.service.watchdog import Watchdog, leave

Factory = Callable[[EngineConfig], ServedEngine]


class ModalService:
    """Made after a snapshot, never before: settings, keys and the checkpoint are those of this container's start."""

    def __init__(
        self,
        deployment: Deployment,
        weights: str,
        entries: MutableMapping[str, Any],
        *,
        on_wedged: Callable[[], None] = leave,
        factory: Factory | None = None,
    ) -> None:
        renew_instance()
        share_heap()
        self._on_wedged, self._warm = on_wedged, False
        config = engine_config(deployment, Path(weights))
        slot = EngineSlot(lambda: (factory or load_engine)(config))
        self.service = PreemptibleService(slot, deployment.serve_settings())
        self.functions = Functions(self.service)
        self._heartbeat = Heartbeat(entries, self._report, self.service.accounting.log)

    def load(self) -> None:
        """Weights, then the schemas that ship, then watching. Raises ModelError: the container must not serve."""
        self._heartbeat.start()
        try:
            with ending_at_interrupt(self._heartbeat.stop):
                self.service.load_here()
                self.service.slot.get().warmup(common_constraints())
        except BaseException:
            self._heartbeat.stop()
            raise
        self._warm = True
        self._heartbeat.now()
        Watchdog(self.service, self._on_wedged).start()

    def app(self) -> FastAPI:
        """The ASGI app over the same engine, concurrency slots and metrics as the functions."""
        return create_app(self.service)

    def stop(self) -> None:
        """Finish what runs within the drain time, then close."""
        self.service.drain()
        self._heartbeat.now()
        until = time.monotonic() + self.service.settings.drain_s
        while self.service.in_flight and time.monotonic() < until:
            time.sleep(0.05)
        self.service.close()
        self.service.accounting.log.write("stopped")
        self._heartbeat.stop()
        if self.service.interrupted:
            leave_at_once()

    def _report(self) -> dict[str, Any]:
        told = health(self.service)
        return told if self._warm or told["state"] != "ready" else {**told, "state": "loading"}


def engine_config(deployment: Deployment, weights: Path) -> EngineConfig:
    """The checkpoint on the volume when there is one, else the model itself, quantised while it loads."""
    checkpoint = weights / deployment.checkpoint
    sizes: dict[str, Any] = {"max_sequence": deployment.max_sequence, "max_batch": deployment.max_batch}
    if checkpoint.is_dir():
        return EngineConfig(model=str(checkpoint), **sizes)
    named = {"model": deployment.model, "revision": deployment.revision}
    return EngineConfig.from_mapping({**named, "quantization": deployment.quantization, **sizes})


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
