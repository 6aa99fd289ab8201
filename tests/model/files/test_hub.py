"""Downloading a model from a hub that misbehaves: what comes is whole, checked, and not fetched twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.model.hub import COMMIT, Hub

NAME = "org/tiny"
CODE = """
import json, sys
from engine.errors import EngineError
from engine.model.files.hub import download
from huggingface_hub import constants
constants.DOWNLOAD_CHUNK_SIZE = 4096  # of 10 MiB: these files are small
try:
    folder = download("org/tiny", sys.argv[1] or None)
    print(json.dumps({"folder": str(folder), "files": sorted(file.name for file in folder.iterdir())}))
except EngineError as error:
    print(json.dumps({"error": error.message}))
assert "torch" not in sys.modules
"""


@pytest.fixture
def hub(moe_folder: Path) -> Iterator[Hub]:
    with Hub(NAME, moe_folder) as running:
        yield running


def download(hub: Hub, home: Path, revision: str = "", **environment: str) -> dict[str, object]:
    env = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", **environment}
    done = subprocess.run(
        [sys.executable, "-c", CODE, revision], env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return told


def weights(hub: Hub) -> str:
    return next(file for file in hub.files if file.endswith(".safetensors"))


def test_a_broken_connection_goes_on_where_it_broke_and_a_wrong_byte_is_fetched_again(hub: Hub, tmp_path: Path) -> None:
    file = weights(hub)
    size = len(hub.files[file])
    hub.drop_after[file] = [size // 3]
    hub.spoil[file] = 1
    told = download(hub, tmp_path)
    folder = Path(str(told["folder"]))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == hub.files
    assert [name for name, begin in hub.ranges if begin] == [file]
    assert size * 2 <= hub.sent[file] < size * 2.1  # one whole with its two halves, one whole in place of the bad one


def test_what_is_there_is_not_fetched_again_and_offline_nothing_is_asked(hub: Hub, tmp_path: Path) -> None:
    first = download(hub, tmp_path, COMMIT)
    (tmp_path / "hub/models--org--tiny/blobs/half.incomplete").write_bytes(b"left by a killed run")
    sent = dict(hub.sent)
    assert download(hub, tmp_path, COMMIT) == first
    assert not list(tmp_path.glob("hub/*/blobs/*.incomplete"))
    assert download(hub, tmp_path, COMMIT, HF_HUB_OFFLINE="1", HF_ENDPOINT="http://127.0.0.1:9") == first
    assert dict(hub.sent) == sent


def test_files_are_fetched_side_by_side(hub: Hub, tmp_path: Path) -> None:
    hub.until_two = True
    assert "files" in download(hub, tmp_path)
    assert not hub.alone


def test_a_file_that_always_comes_damaged_is_named(hub: Hub, tmp_path: Path) -> None:
    file = weights(hub)
    hub.spoil[file] = 99
    assert download(hub, tmp_path) == {"error": f"org/tiny: {file} came damaged 3 times; try again later"}


def test_a_hub_that_is_not_there_is_named(hub: Hub, tmp_path: Path) -> None:
    told = download(hub, tmp_path, HF_ENDPOINT="http://127.0.0.1:9")
    assert "org/tiny could not be downloaded" in str(told["error"])
