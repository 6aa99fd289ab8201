"""The server that `bench.soak --hostile` attacks, in a process of its own; all but the runner is real.

    python -m bench.soak.server PORT [STEP_MS]

Without a step's time the runner is the embedded model's. Under the keys `hostile` and `witness`. A line on stdin asks
for what is left behind: one JSON object on stdout. When stdin ends, the server stops.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil

from bench.harness.models import embedded_tokenizer
from bench.soak.left_behind import left_behind
from bench.soak.sleeping_runner import SleepingRunner
from engine import Engine, EngineConfig
from engine.model.loaded_model import LoadedModel
from engine.model.tokenizer import load_tokenizer
from engine.serve.allocator import share_heap
from engine.serve.server.run import GracefulServer
from engine.serve.service.engine_slot import EngineSlot
from engine.serve.service.service import Service
from engine.serve.settings import ServeSettings

KEYS = ("hostile", "witness")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.soak.server")
    parser.add_argument("port", type=int)
    parser.add_argument("step_ms", type=float, nargs="?")
    options = parser.parse_args()
    share_heap()
    with tempfile.TemporaryDirectory() as folder:
        settings = ServeSettings(api_keys=KEYS, drain_s=2.0, served_model_name="sleeping")
        service = Service(EngineSlot(lambda: _engine(options, Path(folder))), settings)
        server = GracefulServer(service, "127.0.0.1", options.port)
        threading.Thread(target=_answer, args=(service, server), daemon=True).start()
        server.run()
    return 0


def _engine(options: argparse.Namespace, folder: Path) -> Engine:
    engine = _made(options, folder)
    engine.grammars.start()  # as `maskloop serve` does
    return engine


def _made(options: argparse.Namespace, folder: Path) -> Engine:
    if options.step_ms is None:
        return Engine(EngineConfig(cache_dir=folder, threads=1))
    tokenizer = load_tokenizer(embedded_tokenizer())
    runner = SleepingRunner(tokenizer, step_s=options.step_ms / 1e3)
    return Engine(EngineConfig(cache_dir=folder), loaded=LoadedModel("sleeping", None, runner, tokenizer))


def _answer(service: Service, server: GracefulServer) -> None:
    try:
        for _ in sys.stdin:
            print(json.dumps(_left(service, server)), flush=True)
    except Exception as error:  # noqa: BLE001 - told to whoever asked, who waits for a line
        print(json.dumps({repr(error): 1}), flush=True)
    os.kill(os.getpid(), signal.SIGTERM)


def _left(service: Service, server: GracefulServer) -> dict[str, int]:
    """What should be 0 once nobody asks any more; a second is spent on looking which processes still work."""
    engine: Any = service.slot.peek()
    before = _processor_s()
    time.sleep(1.0)
    busy = [pid for pid, seconds in _processor_s().items() if seconds - before.get(pid, seconds) > 0.05]
    return {
        **left_behind(engine),
        "in_flight": len(service.in_flight),
        "checks": sum(service.checks.running.values()),
        "connections": len(server.server_state.connections),
        "working_processes": len(busy),
    }


def _processor_s() -> dict[int, float]:
    """Seconds of processor of every process below this one."""
    found = {}
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            found[process.pid] = times.user + times.system
    return found


if __name__ == "__main__":
    sys.exit(main())
