"""For every test: one thread a worker, and hypothesis draws the same examples in every run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from engine.sandbox import shared_pool

if not Path("/dev/nvidiactl").exists():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # read when the kernels are first imported
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # workers share the cores; read by torch when it is first imported

settings.register_profile("maskloop", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("maskloop")


@pytest.fixture(scope="session", autouse=True)
def processes() -> Iterator[None]:
    """The processes of the sandbox stay from the first test that needs them to the last: they start in seconds."""
    pool, release = shared_pool(settings)
    pool.prepare("engine.grammar.store.worker")
    yield
    release()
