"""What an image's layers say: packages, variables and files. Nothing is built.

A layer is Dockerfile commands over base images. Read are `ENV`, the package list of `uv pip install`, and `COPY` of a
context mount; `RUN` steps are kept, for tests that want to run one in a container.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field

from modal_proto import api_pb2 as pb

from tests.modal.control_plane.uploads import Uploads

INSTALL = re.compile(r"\buv\s+pip\s+install\b(?P<arguments>.*)")
SUBSTITUTION = re.compile(r"\$\([^)]*\)")
TAKES_VALUE = {"--python", "--constraints", "--constraint", "-c", "--index-url", "--extra-index-url", "-r", "--prefix"}


@dataclass
class Layers:
    """An image, read from the base up."""

    packages: set[str] = field(default_factory=set)
    env: dict[str, str] = field(default_factory=dict)
    files: list[pb.MountFile] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)


def read(uploads: Uploads, image_id: str) -> Layers:
    """The image with everything below it."""
    image = uploads.images[image_id]
    layers = Layers()
    for base in image.base_images:
        layers = read(uploads, base.image_id)
    for command in image.dockerfile_commands:
        _apply(command, layers)
    if image.context_mount_id and any(command.startswith("COPY") for command in image.dockerfile_commands):
        layers.files.extend(uploads.mounts[image.context_mount_id])
    return layers


def _apply(command: str, layers: Layers) -> None:
    verb, _, rest = command.partition(" ")
    if verb == "ENV":
        name, _, value = rest.partition("=")
        layers.env[name] = shlex.split(value)[0] if value else ""
    elif verb == "RUN":
        layers.runs.append(rest)
        if found := INSTALL.search(SUBSTITUTION.sub("python", rest)):
            layers.packages.update(packages(shlex.split(found["arguments"])))


def packages(arguments: list[str]) -> list[str]:
    """The requirements among the arguments of an install command."""
    found, skip = [], False
    for word in arguments:
        if skip:
            skip = False
        elif word.startswith("-"):
            skip = word in TAKES_VALUE
        else:
            found.append(word)
    return found
