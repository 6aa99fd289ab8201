"""For every test: one thread a worker, hypothesis draws the same examples in every run, and what takes long comes
first, so that no worker is left with it when the others are done."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from engine.sandbox import shared_pool

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has it ignored by what it starts in the background
if not Path("/dev/nvidiactl").exists():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # read when the kernels are first imported
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # workers share the cores; read by torch when it is first imported

TOGETHER = ("tests/modal/", "tests/mistakes/")
"""Folders that one worker takes whole: their files share what takes seconds to start."""

settings.register_profile("maskloop", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("maskloop")


@pytest.fixture(scope="session", autouse=True)
def processes() -> Iterator[None]:
    """The processes of the sandbox stay from the first test that needs them to the last: they start in seconds."""
    pool, release = shared_pool(settings)
    pool.prepare("engine.grammar.store.worker")
    yield
    release()


def scope(nodeid: str) -> str:
    """What one worker runs: a file, or a folder of `TOGETHER`."""
    return next((folder for folder in TOGETHER if nodeid.startswith(folder)), nodeid.partition("::")[0])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Workers take scopes in this order."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        slow = {scope(item.nodeid) for item in items if item.get_closest_marker("slow")}
        items.sort(key=lambda item: (scope(item.nodeid) not in TOGETHER, scope(item.nodeid) not in slow))


def pytest_collection_finish() -> None:
    """What is imported by now stays out of full collections: a quarter of a second each with torch loaded."""
    gc.freeze()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """`--dist loadfile` in the order of `pytest_collection_modifyitems`; xdist's own is by the number of tests."""
    if config.getvalue("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return scope(nodeid)

    config.option.loadscopereorder = False
    return Scheduling(config, log)
