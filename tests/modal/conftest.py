"""A control plane of our own, and `modal_app.py` deployed to it: what the tests here start from.

The plane (`plane.py`) speaks Modal's protocol on loopback. `modal deploy` and `modal run` are the real commands in a
subprocess; a container is the real entry point in a mount namespace, with what was uploaded and nothing else.

Fixtures, all shared by the tests of one worker:

    plane      nothing deployed yet
                 plane.deploy(MASKLOOP_X=...)                  `modal deploy modal_app.py`; what it printed
                 plane.cli("run", "modal_app.py::NAME", ...)   any `modal` command; a CompletedProcess
                 plane.client_env({...})                       variables for a process that calls the plane itself
                 plane.cls(app)                                the deployed class: `.generate.remote(...)`
                 plane.function(app, "Engine.*")               queue and containers of a function (`"health"`, ...)
                 plane.uploads.volume(name)                    a Volume's folder; fill it before deploying
                 plane.uploads.secrets[name] = {...}           a Secret that exists
                 plane.dict(name)                              what a `modal.Dict` holds, unpickled
                 plane.dict_fails = True                       every Dict call fails
                 plane.container_env[NAME] = value             a variable of the platform for containers from now on
                 plane.start(app, tag)                         one more container, asked for or not
                 plane.cancel(app, tag)                        cancel all calls of a function that still run
                 plane.wait_until(condition)                   poll; fails after a time
    served     app "maskloop", deployed with the tiny model (MASKLOOP_AUTH=none), one container up: its class
    probe      the class of `probe_app.py`, without an engine, for what the entry point itself does
    deploy     deploy("name", MASKLOOP_X=...): another app with the tiny model; returns its class

A container (`plane.function(...).containers`, those that ended in `.ended`) has `.log`, `.pid`, `.running`,
`.exit_code`, `.interrupt()` (SIGINT, as preemption sends it), `.kill()`. URLs: `plane.function(...).web_urls`, by
method ("web"); the health function's own is at "". With proxy auth send `web.PROXY_TOKEN`.
"""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.serve.modal.deployment import HEALTH_PACKAGES
from tests.modal.control_plane import roots
from tests.modal.control_plane.environments import Environment
from tests.modal.control_plane.plane import Plane
from tests.modal.deployed.models import write_tiny

WEIGHTS = "maskloop-weights"
TINY = {"MASKLOOP_MODEL": "/weights/tiny", "MASKLOOP_QUANTIZATION": "bf16", "MASKLOOP_AUTH": "none"}
HEALTH = Environment(Path(sysconfig.get_path("purelib", vars={"base": f"{sys.prefix}/health"})))
"""Made by `make setup`; where it is missing, the health image is filtered out of what is installed here."""
Deploy = Callable[..., Any]


@pytest.fixture(scope="session", autouse=True)
def processes() -> None:
    """In place of the sandbox's processes that other tests share: here the containers have them."""


@pytest.fixture(scope="session")
def plane() -> Iterator[Plane]:
    """Skips where no mount namespace can be made; in continuous integration that is a failure."""
    if why := roots.why_no_namespace():
        told = f"no mount namespace for containers here: {why}"
        pytest.fail(told) if os.environ.get("CI") else pytest.skip(told)
    folder = Path(tempfile.mkdtemp(prefix="plane-"))  # short: a socket's path has 107 characters at most
    try:
        with Plane(folder, {frozenset(HEALTH_PACKAGES): HEALTH} if HEALTH.site_packages.exists() else {}) as plane:
            write_tiny(plane.uploads.volume(WEIGHTS) / "tiny")
            yield plane
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def deploy(plane: Plane) -> Deploy:
    """Deploy under another name, with settings of the test's own."""

    def deployed(app: str, **settings: str) -> Any:
        plane.deploy(**{**TINY, "MASKLOOP_MODAL_APP": app, "MASKLOOP_LABEL_PREFIX": f"{app}-", **settings})
        return plane.cls(app)

    return deployed


@pytest.fixture(scope="session")
def served(plane: Plane, deploy: Deploy) -> Any:
    """The class of the shared deployment, answering."""
    engine = deploy("maskloop")
    engine.info.remote()
    return engine


@pytest.fixture(scope="session")
def probe(plane: Plane) -> Any:
    """The class of `probe_app.py`: a container without an engine, up in a second."""
    plane.deploy(file="tests/modal/deployed/probe_app.py")
    return plane.cls("probe", "Probe")
