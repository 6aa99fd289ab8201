"""What a deployment uploads and names: files by hash, mounts, images, secrets, Dicts, Volumes, blobs.

Plain state without behaviour; ids are made by `new_id`. Volumes are folders: what a container writes is there at once.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from pathlib import Path

from modal_proto import api_pb2 as pb

_numbers = itertools.count(1)


def new_id(prefix: str) -> str:
    """As Modal's ids look: `fu-...`, `im-...`; the client tells types by the prefix."""
    return f"{prefix}-{next(_numbers):06d}"


@dataclass
class Uploads:
    """Everything below `folder`; keyed by id, named things by name as well."""

    folder: Path
    mounts: dict[str, list[pb.MountFile]] = field(default_factory=dict)
    images: dict[str, pb.Image] = field(default_factory=dict)
    secrets: dict[str, dict[str, str]] = field(default_factory=dict)
    """Environments by the secret's name (deployed ones) or id (anonymous ones)."""
    dicts: dict[str, dict[bytes, bytes]] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    volumes: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.files = self.folder / "files"
        self.files.mkdir(parents=True)

    def file(self, sha256: str) -> Path:
        return self.files / sha256

    def volume(self, name: str) -> Path:
        """The folder of a Volume; ids are `vo-NAME`, so that a test can fill it before anybody deploys."""
        self.volumes.add(name)
        folder = self.folder / "volumes" / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder
