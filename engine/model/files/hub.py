"""A model from the hub, whole and checked. Knows what `huggingface_hub` does not do; imports no torch.

It downloads several files at once, goes on where a connection broke, and keeps every finished file for the next run.
What it does not: compare what came with the hub's hashes, and clear away what a killed run left half-done.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from engine.errors import ModelError, missing_extra

PATTERNS = ["*.safetensors", "*.json", "*.txt", "*.jinja", "*.model"]
"""Weights and what belongs to a tokenizer; pickled weights can run code and are not fetched."""
ATTEMPTS = 3
"""At a file whose bytes are not those that the hub names."""


def download(name: str, revision: str | None) -> Path:
    """The folder of a model whose files have the hub's hashes. ModelError: unreachable, unknown, or damaged thrice.

    With HF_HUB_OFFLINE nothing is asked: what is in the cache has been checked by whoever put it there.
    """
    try:
        from huggingface_hub import constants, snapshot_download
    except ModuleNotFoundError:
        raise missing_extra("huggingface_hub", "local") from None
    if not constants.HF_HUB_OFFLINE:
        _clear_half_done(name)
    damaged: list[str] = []
    for _ in range(ATTEMPTS):
        try:
            folder = Path(snapshot_download(name, revision=revision, allow_patterns=PATTERNS))
        except Exception as error:  # noqa: BLE001 - the hub's own, and those of whatever HTTP library it uses
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ModelError(f"{name} could not be downloaded: {reason}", param="model") from None
        if constants.HF_HUB_OFFLINE or not (damaged := _damaged(name, folder)):
            return folder
        for file in damaged:
            (folder / file).resolve().unlink(missing_ok=True)
            (folder / file).unlink(missing_ok=True)
    raise ModelError(f"{name}: {damaged[0]} came damaged {ATTEMPTS} times; try again later", param="model")


def remove(name: str) -> None:
    """Take a downloaded model out of the cache."""
    shutil.rmtree(_cache_folder(name), ignore_errors=True)


def _damaged(name: str, folder: Path) -> list[str]:
    """Files that are not what the hub says of this revision. One core, 1 to 2 GB/s."""
    from huggingface_hub import verify_repo_checksums

    found = verify_repo_checksums(name, revision=folder.name, cache_dir=_cache_folder(name).parent)
    return [mismatch["path"] for mismatch in found.mismatches]


def _clear_half_done(name: str) -> None:
    for file in _cache_folder(name).glob("blobs/*.incomplete"):
        file.unlink(missing_ok=True)


def _cache_folder(name: str) -> Path:
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    return Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=name, repo_type="model")
