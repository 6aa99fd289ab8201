"""`modal run modal_app.py::quantize` on the plane: downloaded on a CPU, quantised apart, gone on with after kills."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.modal.conftest import WEIGHTS
from tests.modal.control_plane.apps import App
from tests.modal.control_plane.containers import Container
from tests.modal.control_plane.functions import Function
from tests.modal.control_plane.plane import PATIENCE_S, ROOT, Plane
from tests.modal.deployed import images
from tests.model import tiny_moe
from tests.model.hub import Hub

NAME = "org/tiny"
SETTINGS = {"MASKLOOP_MODEL": NAME, "HF_HUB_DISABLE_XET": "1"}
TOKEN = "hf_of_this_test"
ENTRY = ["modal_app.py::quantize", "--to", "int8"]
TERMINAL = "This run ends with this terminal"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory, plane: Plane) -> Iterator[Hub]:
    folder = tmp_path_factory.mktemp("source")
    tiny_moe.save(folder)
    plane.container_modules["sitecustomize"] = str(ROOT / "tests/modal/deployed/slow_writer.py")
    with Hub(NAME, folder) as running:
        running.token = TOKEN
        running.spoil[large(running)] = 1
        yield running
    del plane.container_modules["sitecustomize"]


def large(hub: Hub) -> str:
    return max(hub.files, key=lambda name: len(hub.files[name]))


def settings(hub: Hub, **others: str) -> dict[str, str]:
    return {**SETTINGS, "HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, **others}


def start(plane: Plane, hub: Hub, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "modal", "run", *options, *ENTRY]
    return subprocess.Popen(
        command, cwd=ROOT, env=plane.client_env(settings(hub)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True,
    )  # fmt: skip


def weights(plane: Plane) -> Path:
    return plane.uploads.volume(WEIGHTS)


def blobs(plane: Plane) -> Path:
    return weights(plane) / "hf/hub/models--org--tiny/blobs"


def whole(plane: Plane) -> set[str]:
    return {path.name for path in blobs(plane).glob("[0-9a-f]*") if path.suffix != ".incomplete"}


def newest(plane: Plane, tag: str) -> tuple[App, Function]:
    app = [each for each in plane.apps.values() if tag in each.functions][-1]
    return app, plane.functions[app.functions[tag]]


def running(plane: Plane, tag: str) -> Container:
    """The one container of a function of the newest app, once it is there."""
    plane.wait_until(lambda: newest(plane, tag)[1].containers)
    (container,) = newest(plane, tag)[1].containers
    return container


def half_downloaded(plane: Plane) -> bool:
    return bool([*blobs(plane).glob("*.incomplete")])


def finished_files(plane: Plane) -> dict[str, tuple[int, int]]:
    """Files of the interrupted checkpoint that its record names, with what tells whether one was written again."""
    folder = weights(plane) / "org--tiny-int8.partial"
    try:
        told = json.loads((folder / "progress.json").read_text())["files"]
    except (OSError, ValueError):
        return {}
    return {each["name"]: identity(folder / each["name"]) for each in told}


def identity(path: Path) -> tuple[int, int]:
    return path.stat().st_ino, path.stat().st_mtime_ns


def test_without_detach_it_ends_with_the_terminal_and_says_so_first(plane: Plane, hub: Hub) -> None:
    hub.pause_s = 0.05
    run = start(plane, hub)
    plane.wait_until(lambda: half_downloaded(plane))
    container = running(plane, "make_checkpoint")
    run.send_signal(signal.SIGINT)
    said = run.communicate(timeout=PATIENCE_S)[0]
    assert TERMINAL in said
    assert "modal run --detach modal_app.py::quantize" in said
    assert said.index(TERMINAL) < said.index("started: fc-")
    assert container.interrupted_at is not None
    container.kill()  # as Modal does to what does not end by itself
    plane.wait_until(lambda: container.exit_code is not None)
    assert not newest(plane, "make_checkpoint")[1].containers
    assert not (weights(plane) / "org--tiny-int8").exists()


def test_a_killed_download_goes_on_is_checked_and_so_does_a_killed_gpu_step_without_a_terminal(
    plane: Plane, hub: Hub
) -> None:
    hub.pause_s = 0.05
    pause = weights(plane) / "pause"
    pause.touch()
    run = start(plane, hub, "--detach")
    plane.wait_until(lambda: any(app.detached for app in plane.apps.values()))
    container = running(plane, "make_checkpoint")
    plane.wait_until(lambda: len(whole(plane)) > 2 and half_downloaded(plane))
    run.send_signal(signal.SIGINT)
    said = run.communicate(timeout=PATIENCE_S)[0]
    assert TERMINAL not in said
    assert "started: fc-" in said
    container.kill()
    plane.wait_until(lambda: container.exit_code is not None)
    kept, sent, hub.pause_s = whole(plane), dict(hub.sent), 0.0

    step = running(plane, "run_module")
    plane.wait_until(lambda: len(finished_files(plane)) == 3)
    again = [name for name in hub.files if hub.etag(name) in kept and hub.sent[name] != sent[name]]
    assert again in ([], [large(hub)])  # what was whole is not fetched again, unless it had come damaged
    assert not hub.spoil[large(hub)]
    sent, files = dict(hub.sent), finished_files(plane)
    step.kill()
    plane.wait_until(lambda: step.exit_code is not None)
    pause.unlink()
    made = weights(plane) / "org--tiny-int8"
    plane.wait_until(lambda: (made / "manifest.json").exists() and not blobs(plane).exists())
    assert {name: identity(made / name) for name in files} == files  # what was finished is not written again
    assert len([*made.glob("weights-*")]) > len(files)
    assert dict(hub.sent) == sent


def test_what_is_there_is_not_made_again(plane: Plane, hub: Hub) -> None:
    sent = dict(hub.sent)
    done = plane.cli("run", *ENTRY, **settings(hub))
    assert (done.returncode, dict(hub.sent)) == (0, sent), done.stdout + done.stderr
    assert "is there already" in done.stdout
    assert not newest(plane, "run_module")[1].ended


def test_a_step_that_fails_is_repeated_twice_and_then_told_in_one_line(plane: Plane, hub: Hub) -> None:
    done = plane.cli("run", *ENTRY, **settings(hub, MASKLOOP_MODEL="org/absent"))
    assert done.returncode == 1
    assert "maskloop: org/absent could not be downloaded" in done.stderr
    function = newest(plane, "make_checkpoint")[1]
    (call,) = [each for each in plane.calls.values() if each.function_id == function.id]
    assert [one.attempts for one in call.inputs] == [3]
    plane.wait_until(lambda: len(function.ended) == 3)  # each in a container of its own, with nothing left of another's


def test_the_hubs_token_and_no_gpu_reach_the_download_and_no_token_the_gpu(plane: Plane, hub: Hub) -> None:
    """The hub asks for it, so the download above had it."""
    app = newest(plane, "make_checkpoint")[0]
    told = {tag: plane.functions[each].definition for tag, each in app.functions.items()}
    gpus = {tag: definition.resources.gpu_config.gpu_type for tag, definition in told.items()}
    assert (gpus["make_checkpoint"], gpus["run_module"]) == ("", "A100-80GB")
    secrets = {tag: [plane.uploads.secrets[each] for each in definition.secret_ids] for tag, definition in told.items()}
    assert secrets.pop("make_checkpoint") == [{"HF_TOKEN": TOKEN}]
    assert not any(secrets.values())
    assert {"Engine.*", "run_module", "health"} <= secrets.keys()
    for definition in told.values():
        assert TOKEN not in images.read(plane.uploads, definition.image_id).env.values()


def test_what_is_wrong_is_one_line_at_the_end(plane: Plane, hub: Hub) -> None:
    refused = plane.cli("run", "modal_app.py::quantize", "--to", "q4", **settings(hub))
    assert refused.returncode == 1
    assert "--to must be one of" in refused.stderr
    assert "Traceback" not in refused.stdout + refused.stderr
