"""The import filter: of one installed environment, exactly the closure of some packages, as a folder to import from.

The closure is computed from the metadata of the installed distributions (their requirements, with markers and extras).
The folder holds links, so making one costs milliseconds; a package that is not in the closure is not there at all.
"""

from __future__ import annotations

import csv
import importlib.metadata
import re
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path, PurePosixPath

from packaging.requirements import Requirement


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


class Environment:
    """The distributions in one `site-packages`."""

    def __init__(self, site_packages: Path) -> None:
        self.site_packages = site_packages

    @cached_property
    def distributions(self) -> dict[str, importlib.metadata.Distribution]:
        found = importlib.metadata.distributions(path=[str(self.site_packages)])
        return {canonical(each.metadata["Name"]): each for each in found}

    def missing(self, requirements: Iterable[str]) -> set[str]:
        return {canonical(Requirement(each).name) for each in requirements} - self.distributions.keys()

    def closure(self, requirements: Iterable[str]) -> set[str]:
        """Names of the installed distributions that the requirements bring."""
        reached: set[tuple[str, str]] = set()
        waiting = [(canonical(each.name), extra) for each in map(Requirement, requirements) for extra in _extras(each)]
        while waiting:
            name, extra = node = waiting.pop()
            if node not in reached and name in self.distributions:
                reached.add(node)
                waiting.extend(self._requires(name, extra))
        return {name for name, _ in reached}

    def _requires(self, name: str, extra: str) -> Iterator[tuple[str, str]]:
        for line in self.distributions[name].requires or ():
            wanted = Requirement(line)
            if wanted.marker is None or wanted.marker.evaluate({"extra": extra}):
                yield from ((canonical(wanted.name), each) for each in _extras(wanted))

    def link(self, names: set[str], folder: Path, seen_as: Path) -> Path:
        """`folder` with links to what the named distributions installed; their target is `seen_as`/RELATIVE."""
        inside = [path for name in names for path in self._files(name)]
        shared = {path.parts[0] for other in self.distributions.keys() - names for path in self._files(other)}
        for path in dict.fromkeys(_linked(path, shared) for path in inside):
            place = folder / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(seen_as / path)
        return folder

    def _files(self, name: str) -> list[PurePosixPath]:
        record = self.distributions[name].read_text("RECORD") or ""
        paths = (PurePosixPath(row[0]) for row in csv.reader(record.splitlines()) if row)
        return [path for path in paths if path.parts[0] != ".." and not path.is_absolute()]


def _extras(requirement: Requirement) -> Iterator[str]:
    """Without an extra first: `foo[bar]` needs what `foo` needs, too."""
    yield ""
    yield from requirement.extras


def _linked(path: PurePosixPath, shared: set[str]) -> PurePosixPath:
    """A whole top-level package where it has one owner; single files in a namespace that others share."""
    return path if path.parts[0] in shared else PurePosixPath(path.parts[0])
