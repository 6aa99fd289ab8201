"""Import a module whose libraries name torch and transformers, without those two: 3 s and 200 MiB less.

XGrammar imports both for signatures and for kernels on tensors, which a process that compiles never has. What such a
library takes from them while it is imported is a placeholder; a later import finds the real ones.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from importlib import import_module
from types import ModuleType
from typing import Any

_LIBRARIES = ("torch", "transformers")


class _Nothing(type):
    """Any name of such a library: a class, whose attributes and whose calls are more of the same."""

    def __getattr__(cls, name: str) -> _Nothing:
        return _named(name)

    def __call__(cls, *_: Any, **__: Any) -> Any:
        return cls


class _Placeholder(ModuleType):
    def __getattr__(self, name: str) -> _Nothing:
        return _named(name)


def light_import(name: str) -> ModuleType:
    """The module. Raises whatever a library raises that cannot do without; what it imported is then of no use.

    First with neither to be had, since some libraries (XGrammar's binding) can do without; then with placeholders.
    Where one of the two is there already, nothing is saved, and the module is imported as any other.
    """
    if not sys.modules.keys().isdisjoint(_LIBRARIES):
        return import_module(name)
    try:
        sys.modules |= dict.fromkeys(_LIBRARIES)  # type: ignore[arg-type]  # None: not to be had
        with suppress(ImportError):
            return import_module(name)
        sys.modules |= {library: _Placeholder(library) for library in _LIBRARIES}
        return import_module(name)
    finally:
        for library in _LIBRARIES:
            del sys.modules[library]


def _named(name: str) -> _Nothing:
    if name.startswith("__"):
        raise AttributeError(name)
    return _Nothing(name, (), {})
