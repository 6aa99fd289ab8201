"""Kernels run in Triton's interpreter here, which looks for what to replace in the language at every call of a function
in a kernel, half of the time of small ones: here it looks once. It also works out a shape and a numpy type anew for
every tensor, a third of what is left: here once a shape and once a type. Each weight is dequantised once for all
reference calls of a test.
"""

from __future__ import annotations

import functools
import inspect
from typing import Any

import pytest
import triton.language as tl
from torch import Tensor
from triton.language import core
from triton.runtime import interpreter

from engine.model.kernels.device import fragments
from engine.model.kernels.device.fragments import FragmentWeight
from engine.model.kernels.products import experts, linear, prefill

_patch_lang, _get_np_dtype = interpreter._patch_lang, interpreter._get_np_dtype
_make_block_type, _make_tensor = core.block_type.__init__, core.tensor.__init__
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


@functools.cache
def _block(sizes: tuple[int, ...]) -> tuple[Any, ...]:
    """Shape, number of elements and text of a block type; shape and number of elements of its tensors."""
    kind: Any = object.__new__(core.block_type)
    _make_block_type(kind, core.int32, list(sizes))
    made: Any = object.__new__(core.tensor)
    _make_tensor(made, None, kind)
    return kind.shape, kind.numel, str(kind.shape), made.shape, made.numel


def _block_type(self: Any, element_ty: Any, shape: Any) -> None:
    sizes = tuple([size.value if isinstance(size, core.constexpr) else size for size in shape])
    self.element_ty = element_ty
    self.shape, self.numel, text, *self.of_tensors = _block(sizes)
    self.name = f"<{text}, {element_ty}>"


def _tensor(self: Any, handle: Any, type: Any) -> None:  # noqa: A002 - the interpreter's own name
    if isinstance(type, core.block_type):
        self.handle, self.type, self.dtype = handle, type, type.element_ty
        self.shape, self.numel = type.of_tensors
    else:
        _make_tensor(self, handle, type)


_np_dtypes: dict[str, Any] = {}


def _np_dtype(kind: Any) -> Any:
    name = (kind.element_ty if isinstance(kind, core.block_type) else kind).name
    if name not in _np_dtypes:
        _np_dtypes[name] = _get_np_dtype(kind)
    return _np_dtypes[name]


@pytest.fixture(scope="session", autouse=True)
def remembered_builtins() -> None:
    interpreter._patch_builtin, interpreter._patch_lang = _patch_builtin, _patch_once
    interpreter._get_np_dtype = _np_dtype
    core.block_type.__init__, core.tensor.__init__ = _block_type, _tensor


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
