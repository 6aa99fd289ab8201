"""The server that `bench.hostile` attacks, in a process of its own: real connections, service, engine and grammars.

    python -m bench.hostile_server PORT (--step-ms MS | --embedded)

Under the keys `hostile` and `witness`. A line on stdin asks for what is left behind: one JSON object on stdout. When
stdin ends, the server stops.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from bench.sleeping import SleepingRunner
from bench.soak import left_behind
from bench.tiny import embedded_tokenizer
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
    parser = argparse.ArgumentParser(prog="bench.hostile_server")
    parser.add_argument("port", type=int)
    parser.add_argument("--step-ms", type=float, default=20.0)
    parser.add_argument("--embedded", action="store_true")
    options = parser.parse_args()
    share_heap()
    with tempfile.TemporaryDirectory() as folder:
        service = Service(EngineSlot(lambda: _engine(options, Path(folder))), ServeSettings(api_keys=KEYS, drain_s=2.0))
        server = GracefulServer(service, "127.0.0.1", options.port)
        threading.Thread(target=_answer, args=(service, server), daemon=True).start()
        server.run()
    return 0


def _engine(options: argparse.Namespace, folder: Path) -> Engine:
    if options.embedded:
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
    found: dict[int, float] = {}
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents[int(entry.name)] = int(fields[1])
            found[int(entry.name)] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def below(pid: int) -> bool:
        while pid in parents and pid != os.getpid():
            pid = parents[pid]
        return pid == os.getpid()

    return {pid: seconds for pid, seconds in found.items() if pid != os.getpid() and below(pid)}


if __name__ == "__main__":
    sys.exit(main())
