"""A container's root: its own mount namespace in which the checkout does not exist.

Bound are the system, the interpreter, `/packages` (what is installed, reached only through the filter's links), what
was uploaded, and Volumes at their paths. Where no namespace can be made, `why_no_namespace` says why.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc", "/dev", "/proc", "/sys")
PACKAGES = "/packages"
VENV = "/venv"


def unshare_command() -> list[str]:
    """Root unshares mounts alone; anybody else becomes root in a user namespace first."""
    return ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]


@cache
def why_no_namespace() -> str:
    """Empty where a namespace with mounts and chroot can be made, else what was said."""
    try:
        probe = "mount -t tmpfs none /mnt && mkdir /mnt/usr && mount --rbind /usr /mnt/usr && chroot / true"
        done = subprocess.run([*unshare_command(), "sh", "-c", probe], capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        return str(error)
    return "" if done.returncode == 0 else done.stderr.strip() or f"exit code {done.returncode}"


@dataclass
class Root:
    """What is bound where: paths inside the container -> paths here. `read_only` of them."""

    folder: Path
    binds: dict[str, Path] = field(default_factory=dict)
    read_only: set[str] = field(default_factory=set)

    def inside(self, path: str) -> str:
        """How the container sees what is bound at `path`."""
        return path

    def interpreter(self, links: Path, site_packages: Path) -> None:
        """Bind the interpreter at its own path, what is installed, and the filter's links."""
        self.binds |= {PACKAGES: site_packages, VENV: links}
        if sys.base_prefix not in SYSTEM:
            self.binds[sys.base_prefix] = Path(sys.base_prefix)

    def script(self, command: list[str], env: Mapping[str, str]) -> str:
        """Shell that builds the root and becomes `command` in it; the process id stays the same throughout."""
        root = shlex.quote(str(self.folder))
        lines = ["set -e", "mount --make-rprivate /", f"mount -t tmpfs -o mode=755 root {root}"]
        for path in SYSTEM:
            if Path(path).is_symlink():
                lines.append(f"ln -s {Path(path).readlink()} {root}{path}")
            elif Path(path).exists():
                lines.append(_bind(Path(path), f"{root}{path}"))
        for inside in sorted(self.binds):
            lines.append(_bind(self.binds[inside], f"{root}{shlex.quote(inside)}"))
            if inside in self.read_only:
                lines.append(f"mount -o remount,bind,ro {root}{shlex.quote(inside)}")
        variables = [f"{name}={value}" for name, value in env.items()]
        become = ["setpriv", "--pdeathsig", "KILL", "chroot", str(self.folder), "/usr/bin/env", "--ignore-environment"]
        become += ["--default-signal", "--chdir=/root", *variables, *command]
        return "\n".join([*lines, "exec " + shlex.join(become)])

    def start(self, command: list[str], env: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
        self.folder.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as out:
            return subprocess.Popen(
                [*unshare_command(), "/bin/sh", "-c", self.script(command, env)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )


class PlainRoot(Root):
    """Where no namespace can be made: the same files without one, for a bench that says so. The checkout stays visible,
    and what is bound at a place of its own (a Volume) becomes a link there, which is left behind."""

    OWN = ("/root", "/tmp", "/__modal", PACKAGES, VENV, sys.base_prefix)

    def inside(self, path: str) -> str:
        return str(self.binds[path])

    def start(self, command: list[str], env: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
        for path, source in self.binds.items():
            if path not in self.OWN and not (place := Path(path)).exists():
                place.parent.mkdir(parents=True, exist_ok=True)
                place.unlink(missing_ok=True)  # a link to something that is gone
                place.symlink_to(source)
        with log.open("ab") as out:
            return subprocess.Popen(
                command, cwd=self.inside("/root"), env=dict(env), stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                start_new_session=True,
            )  # fmt: skip


def _bind(source: Path, target: str) -> str:
    make = f"mkdir -p {target}" if source.is_dir() else f"mkdir -p $(dirname {target}) && touch {target}"
    return f"{make} && mount --rbind {shlex.quote(str(source))} {target}"


def make_venv(folder: Path) -> Path:
    """A virtual environment of links; returns its empty `site-packages`."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    home = Path(sys.base_prefix) / "bin"
    site_packages = folder / "lib" / version / "site-packages"
    site_packages.mkdir(parents=True)
    (folder / "bin").mkdir()
    (folder / "bin" / "python").symlink_to(home / version)
    (folder / "pyvenv.cfg").write_text(f"home = {home}\ninclude-system-site-packages = false\n")
    return site_packages
