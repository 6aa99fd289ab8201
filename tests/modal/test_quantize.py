"""`modal run modal_app.py::quantize` on the plane: downloaded on a CPU, quantised apart, gone on with after a kill."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.modal import images
from tests.modal.conftest import WEIGHTS
from tests.modal.plane import ROOT, Plane
from tests.model.hub import Hub

NAME = "org/tiny"
SETTINGS = {"MASKLOOP_MODEL": NAME, "HF_HUB_DISABLE_XET": "1"}
TOKEN = "hf_of_this_test"
COMMAND = ["run", "modal_app.py::quantize", "--to", "int8"]
CODE = "import sys; from tests.model import tiny_moe; from pathlib import Path; tiny_moe.save(Path(sys.argv[1]))"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    folder = tmp_path_factory.mktemp("source")
    subprocess.run([sys.executable, "-c", CODE, str(folder)], cwd=ROOT, check=True)  # apart: it imports torch
    with Hub(NAME, folder) as running:
        running.token = TOKEN
        yield running


def settings(hub: Hub) -> dict[str, str]:
    return {**SETTINGS, "HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN}


def weights(plane: Plane) -> Path:
    return plane.uploads.volume(WEIGHTS)


def whole(blobs: Path) -> set[str]:
    return {path.name for path in blobs.glob("[0-9a-f]*") if path.suffix != ".incomplete"}


def containers(plane: Plane, tag: str) -> list[Any]:
    return [
        container
        for app in plane.apps.values()
        if tag in app.functions
        for container in plane.functions[app.functions[tag]].containers
    ]


def test_a_killed_download_goes_on_is_checked_and_the_source_is_deleted(plane: Plane, hub: Hub) -> None:
    large = max(hub.files, key=lambda name: len(hub.files[name]))
    hub.pause_s, hub.spoil[large] = 0.05, 1
    command = [sys.executable, "-m", "modal", *COMMAND]
    run = subprocess.Popen(command, cwd=ROOT, env=plane.client_env(settings(hub)), stdout=subprocess.PIPE, text=True)
    blobs = weights(plane) / "hf/hub/models--org--tiny/blobs"
    plane.wait_until(lambda: len(whole(blobs)) > 2 and [*blobs.glob("*.incomplete")])
    (container,) = containers(plane, "make_checkpoint")
    container.kill()
    plane.wait_until(lambda: container.exit_code is not None)
    kept, sent, hub.pause_s = whole(blobs), dict(hub.sent), 0.0
    said = run.communicate(timeout=120)[0]
    assert run.returncode == 0, said
    assert "This run ends with this terminal" in said
    assert "started: fc-" in said
    again = [name for name in hub.files if hub.etag(name) in kept and hub.sent[name] != sent[name]]
    assert again in ([], [large])  # what was whole is not fetched again, unless it had come damaged
    assert not hub.spoil[large]
    assert (weights(plane) / "org--tiny-int8/manifest.json").exists()
    assert not blobs.exists()

    sent = dict(hub.sent)
    again = plane.cli(*COMMAND, **settings(hub))
    assert (again.returncode, dict(hub.sent)) == (0, sent)
    assert "is there already" in again.stdout


@pytest.fixture(scope="module")
def refused(plane: Plane, hub: Hub) -> subprocess.CompletedProcess[str]:
    return plane.cli("run", "modal_app.py::quantize", "--to", "q4", **settings(hub))


def test_the_hubs_token_reaches_the_download_and_nothing_else(plane: Plane, refused: Any) -> None:
    """The hub asks for it, so the download above had it."""
    app = list(plane.apps.values())[-1]
    told = {tag: plane.functions[identity].definition for tag, identity in app.functions.items()}
    secrets = {tag: [plane.uploads.secrets[each] for each in definition.secret_ids] for tag, definition in told.items()}
    assert secrets.pop("make_checkpoint") == [{"HF_TOKEN": TOKEN}]
    assert not any(secrets.values())
    assert {"Engine.*", "run_module", "health"} <= secrets.keys()
    for definition in told.values():
        assert TOKEN not in images.read(plane.uploads, definition.image_id).env.values()


def test_what_is_wrong_is_one_line_at_the_end(refused: Any) -> None:
    assert refused.returncode == 1
    assert "--to must be one of" in refused.stderr
    assert "Traceback" not in refused.stdout + refused.stderr
