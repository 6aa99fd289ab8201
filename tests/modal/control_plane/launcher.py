"""From what was deployed to a running entry point: files laid out, environment chosen, arguments written.

A container is told its function through Modal's `ContainerArguments` and finds the plane at a socket of its own, which
is how the plane knows who asks.
"""

from __future__ import annotations

import os
import shutil
import sysconfig
from collections.abc import Iterable, Mapping
from pathlib import Path

from modal_proto import api_pb2 as pb

from tests.modal.control_plane import roots
from tests.modal.control_plane.containers import Container
from tests.modal.control_plane.environments import Environment
from tests.modal.control_plane.uploads import Uploads
from tests.modal.deployed import images

CLIENT = "modal"
"""Modal mounts its own client, with what that needs, beside the image's packages."""
OWN = "/__modal"
HERE = Environment(Path(sysconfig.get_path("purelib")))


def socket_of(container: Container) -> Path:
    return container.folder / "__modal" / "socket"


class Launcher:
    """Knows how containers are made; knows nothing of inputs. `environments`: by image package set, first match."""

    def __init__(
        self, uploads: Uploads, environments: dict[frozenset[str], Environment], *, namespaces: bool, strict: bool
    ) -> None:
        self._uploads, self._environments, self._namespaces = uploads, environments, namespaces
        self._strict = strict
        self.left_out: set[str] = set()
        """Packages of images that are not installed here; with `strict` they are a LookupError."""
        self._made: dict[object, Path] = {}

    def root(self, folder: Path, definition: pb.Function) -> tuple[roots.Root, dict[str, str]]:
        """Root and variables of a container of this function."""
        layers = images.read(self._uploads, definition.image_id)
        environment = self._environments.get(frozenset(layers.packages), HERE)
        files = [file for mount in sorted(definition.mount_ids) for file in self._uploads.mounts[mount]]
        tree = self._tree([*layers.files, *files])
        root = roots.Root(folder / "root") if self._namespaces else roots.PlainRoot(folder / "root")
        root.binds |= {f"/{entry.name}": entry for entry in tree.iterdir()}
        root.interpreter(self._links(environment, layers.packages), environment.site_packages)
        for name in ("tmp", OWN.lstrip("/")):
            root.binds[f"/{name.lstrip('/')}"] = made = folder / name.lstrip("/")
            made.mkdir(parents=True, exist_ok=True)
        for mount in definition.volume_mounts:
            root.binds[mount.mount_path] = self._uploads.volume(mount.volume_id.removeprefix("vo-"))
            if mount.read_only:
                root.read_only.add(mount.mount_path)
        return root, {**layers.env, **self._secrets(definition)}

    def start(
        self,
        container: Container,
        arguments: pb.ContainerArguments,
        extra: Mapping[str, str],
        modules: Mapping[str, str],
    ) -> None:
        """Start the entry point as `container`; its socket is expected at `socket_of(container)`."""
        root, variables = self.root(container.folder, arguments.function_def)
        for name, source in modules.items():
            shutil.copyfile(source, container.folder / "__modal" / f"{name}.py")
        (container.folder / "__modal" / "arguments").write_bytes(arguments.SerializeToString())
        own = root.inside(OWN)
        variables |= {
            "HOME": root.inside("/root"),
            "LANG": "C.UTF-8",
            "PATH": f"{root.inside(roots.VENV)}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "PYTHONPATH": f"{root.inside('/root')}:{own}",
            "MODAL_IS_REMOTE": "1",
            "MODAL_SERVER_URL": f"unix://{own}/socket",
            "MODAL_CONTAINER_ARGUMENTS_PATH": f"{own}/arguments",
            "MODAL_TASK_ID": container.id,
            "MODAL_IMAGE_ID": arguments.function_def.image_id,
            "MODAL_ENVIRONMENT": arguments.environment_name,
            **extra,
        }
        command = [f"{root.inside(roots.VENV)}/bin/python", "-u", "-m", "modal._container_entrypoint"]
        container.process = root.start(command, variables, container.folder / "log")

    def _secrets(self, definition: pb.Function) -> dict[str, str]:
        found: dict[str, str] = {}
        for secret in definition.secret_ids:
            found |= self._uploads.secrets[secret]
        return found

    def _tree(self, files: Iterable[pb.MountFile]) -> Path:
        """The uploaded files at their places below one folder; shared by containers with the same files."""
        listed = {file.filename: file.sha256_hex for file in files}
        key = ("tree", *sorted(listed.items()))
        if key not in self._made:
            tree = self._uploads.folder / "trees" / str(len(self._made))
            (tree / "root").mkdir(parents=True)
            for name, digest in listed.items():
                place = tree / name.lstrip("/")
                place.parent.mkdir(parents=True, exist_ok=True)
                os.link(self._uploads.file(digest), place)
            self._made[key] = tree
        return self._made[key]

    def _links(self, environment: Environment, packages: set[str]) -> Path:
        key = ("links", str(environment.site_packages), *sorted(packages))
        if key not in self._made:
            folder = self._uploads.folder / "venvs" / str(len(self._made))
            self.left_out |= (missing := environment.missing(packages))
            if missing and self._strict:
                raise LookupError(f"not installed in {environment.site_packages}: {', '.join(sorted(missing))}")
            names = environment.closure([*packages, CLIENT])
            seen_as = Path(roots.PACKAGES) if self._namespaces else environment.site_packages
            environment.link(names, roots.make_venv(folder), seen_as)
            self._made[key] = folder
        return self._made[key]
