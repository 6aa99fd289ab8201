"""Kernels run in Triton's interpreter here, which looks for what to replace in the language at every call of a function
in a kernel, half of the time of small ones: here it looks once. Each weight is dequantised once for all reference calls
of a test.
"""

from __future__ import annotations

import functools
import inspect
from typing import Any

import pytest
import triton.language as tl
from torch import Tensor
from triton.runtime import interpreter

from engine.model.kernels.device import fragments
from engine.model.kernels.device.fragments import FragmentWeight
from engine.model.kernels.products import experts, linear, prefill

_patch_lang = interpreter._patch_lang
_patched: set[str] = set()
"""The languages of functions that are patched while a kernel runs, by name."""


@functools.cache
def _builtins(package: Any) -> tuple[str, ...]:
    return tuple(name for name, member in inspect.getmembers(package) if tl.core.is_builtin(member))


def _patch_builtin(package: Any, *rest: Any) -> None:
    for name in _builtins(package):
        member = getattr(package, name)
        if tl.core.is_builtin(member):
            interpreter._patch_attr(package, name, member, *rest)


@functools.cache
def _languages(fn: Any) -> frozenset[str]:
    return frozenset(value.__name__ for value in fn.__globals__.values() if value is tl or value is tl.core)


def _patch_once(fn: Any) -> Any:
    """A kernel's scope is restored when it has run; that of a function in it never is."""
    found = _languages(fn)
    if found <= _patched:
        return None
    scope = _patch_lang(fn)
    restore = getattr(scope, "restore", None)
    if restore is not None:
        _patched.update(found)
        scope.restore = lambda: (restore(), _patched.clear())
    return scope


@pytest.fixture(scope="session", autouse=True)
def remembered_builtins() -> None:
    interpreter._patch_builtin, interpreter._patch_lang = _patch_builtin, _patch_once


@pytest.fixture(autouse=True)
def dequantise_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The references dequantise at every call, which is right and slow."""
    known: dict[int, tuple[FragmentWeight, Tensor]] = {}

    def remembered(weight: FragmentWeight) -> Tensor:
        if id(weight) not in known:
            known[id(weight)] = (weight, fragments.unfragment(weight))
        return known[id(weight)][1]

    for module in (experts, linear, prefill):
        monkeypatch.setattr(module, "unfragment", remembered)
