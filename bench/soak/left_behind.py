"""What an engine should not hold once nobody asks any more."""

from __future__ import annotations

from engine import Engine


def left_behind(engine: Engine) -> dict[str, int]:
    """What should be 0: requests, slots and queue places held, bytes over a cache's limit."""
    core = engine._thread._core
    scheduler, prefixes, runner = core._scheduler, core._prompts.stored, engine.loaded.runner
    return {
        "requests": engine.info()["in_flight"],
        "slots": runner.max_batch - len(scheduler._free),
        "blocks": sum(len(runner.blocks.table(slot)) for slot in range(runner.max_batch)),
        "samples": len(scheduler.running) + sum(map(len, scheduler._waiting.values())),
        "cache_bytes_over": max(0, prefixes.nbytes - engine.config.prefix_cache_bytes),
    }
