"""Other tools' formats and nl4 with random codes and scales, laid out as the kernels read them: for speed, at a shape.

What a format is to a kernel is its form (kernels/device/forms.py); codes and scales are drawn on the device, a row's
factor brings weights to the spread of random_weights.py.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from engine.model.architecture.shape import Shape
from engine.model.cuda.fragment_model import FragmentLayer, FragmentModel
from engine.model.kernels.attention.attention import HeadNorm
from engine.model.kernels.device.forms import MINIMA, SCALE_DTYPES, SCALE_TYPES, ZEROS, Form, group_records
from engine.model.kernels.device.fragments import FragmentWeight, pair_table, unfragment
from engine.model.weights.codebook import codebook

SPREAD = 0.02
_FP16, _BF16, _E4M3, _E8M0, _UINT8, _INT8 = (
    SCALE_TYPES.index(name) for name in ("fp16", "bf16", "e4m3", "e8m0", "uint8", "int8")
)
FORMS: dict[str, Form] = {
    "fp8": Form(8, 1, _BF16, e4m3=True, units=2),
    "fp8-rows": Form(8, e4m3=True),
    "fp8-tensor": Form(8, e4m3=True),
    "gptq-4": Form(4, 1, _FP16, ZEROS, units=2),
    "gptq-8": Form(8, 1, _FP16, ZEROS, units=2),
    "ct-4": Form(4, 1, _BF16, signed=True, units=2),
    "ct-8": Form(8, 1, _BF16, units=2),
    "ct-4-32": Form(4, 2, _BF16, signed=True),
    "nvfp4": Form(4, 4, _E4M3, table=True),
    "mxfp4": Form(4, 2, _E8M0, table=True),
    "q8_0": Form(8, 2, _FP16),
    "q4_0": Form(4, 2, _FP16, signed=True),
    "q4_1": Form(4, 2, _FP16, MINIMA),
    "q4_k": Form(4, 2, _UINT8, MINIMA, outer=True),
    "q5_k": Form(5, 2, _UINT8, MINIMA, outer=True),
    "q6_k": Form(6, 4, _INT8, outer=True, signed=True),
    "nl4": Form(4, 4, _E4M3, table=True),
    "gptq-4-act": Form(4, 1, _FP16, ZEROS, units=2),
}  # fmt: skip
"""GPTQ and AutoAWQ in groups of 128 are one form. `-act`: every matrix has its columns in an order of its own, but
down, whose inputs come in its order."""


def random_model(config: Any, name: str, device: torch.device | str) -> FragmentModel:
    """A mixture of experts of the config's shape in the format of that name; floats in bf16."""
    shape = Shape.from_config(config)
    hidden, inner, experts = shape.hidden, int(config.moe_intermediate_size), int(config.num_experts)
    queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    make = Maker(name, torch.device(device))
    ones = torch.ones(hidden, dtype=torch.float16, device=device)
    one = torch.ones(shape.head_dim, dtype=torch.float16, device=device)
    layers = [
        FragmentLayer(
            ones, make.weight(None, queries + 2 * keys, hidden), HeadNorm(one, one, None, shape.eps),
            make.weight(None, hidden, queries), ones, make.floats(experts, hidden),
            make.weight(experts, 2 * inner, hidden), make.weight(experts, hidden, inner, ordered=False),
        )
        for _ in range(shape.layers)
    ]  # fmt: skip
    vocabulary = int(config.vocab_size)
    return FragmentModel(shape, make.floats(vocabulary, hidden), layers, ones, make.floats(vocabulary, hidden))


class Maker:
    """Weights of one format."""

    def __init__(self, name: str, device: torch.device) -> None:
        self._form, self._device, self._ordered = FORMS[name], device, name.endswith("-act")
        self._random = torch.Generator(device).manual_seed(0)
        table = codebook("nf4" if name == "nl4" else "e2m1", device) * (1 if self._form.scale == _E4M3 else 256)
        self._table = pair_table(table if self._form.table else torch.zeros_like(table))
        self._factor = 1.0
        self._factor = SPREAD / float(unfragment(self.weight(None, 256, 512)).std())

    def floats(self, rows: int, columns: int) -> Tensor:
        return torch.randn(rows, columns, generator=self._random, device=self._device).mul_(SPREAD).bfloat16()

    def weight(self, experts: int | None, rows: int, columns: int, *, ordered: bool = True) -> FragmentWeight:
        """[E, N, K], or [N, K] where there are no experts."""
        form, count = self._form, rows * (experts or 1)
        lead = () if experts is None else (experts,)
        words = torch.randint(
            -(2**15), 2**15, (*lead, rows // 16, columns // 64, 64 * form.bits), dtype=torch.int16,
            generator=self._random, device=self._device,
        )  # fmt: skip
        if form.e4m3:
            words &= ~0x4040  # the smaller half of the numbers, none of which is NaN
        factors = torch.full((count,), self._factor, device=self._device).view(torch.int32)
        records = torch.zeros(1, 16, dtype=torch.uint8, device=self._device)
        if form.per_unit:
            records = self._records(count, columns).view(*lead, -1) if lead else self._records(count, columns)
        order = None
        if ordered and self._ordered:
            order = torch.rand(*lead, columns, generator=self._random, device=self._device).argsort(-1).int()
        table = torch.cat((self._table, factors))
        return FragmentWeight(words, records, table, rows, columns, form.bits, form, order)

    def _records(self, rows: int, columns: int) -> Tensor:
        form = self._form
        size = (rows, columns // 64 * form.per_unit // form.units)
        first, second = self._scales(size), None
        if form.second == ZEROS:
            middle = 8 if form.bits == 4 else 0
            second = self._whole(middle - 1, middle + 2, size).to(torch.int8)
        elif form.second == MINIMA:
            middle = (1 << form.bits) / 2 - 0.5
            second = first if form.outer else (first.float() * middle).to(first.dtype)
        outer = []
        if form.outer:
            outer = [self._uniform((rows, columns // 256)).half()]
            outer += [outer[0] * ((1 << form.bits) / 2 - 0.5)] if second is not None else []
        return group_records(form, first, second, outer)

    def _scales(self, size: tuple[int, int]) -> Tensor:
        """Of the form's type, around one, or of the whole numbers that k-quants have; of either sign where the type has
        them, or weights would not be zero in the mean and all tokens choose the same experts."""
        kind = self._form.scale
        signs = self._whole(0, 2, size) * 2 - 1
        if kind in (_UINT8, _INT8):
            numbers = self._whole(16, 64, size)
            return (numbers if kind == _UINT8 else numbers * signs).to(SCALE_DTYPES[kind])
        if kind == _E8M0:
            return self._whole(126, 129, size).to(torch.uint8).view(SCALE_DTYPES[kind])
        return (self._uniform(size) * signs).to(SCALE_DTYPES[kind])

    def _whole(self, low: int, high: int, size: tuple[int, int]) -> Tensor:
        return torch.randint(low, high, size, generator=self._random, device=self._device)

    def _uniform(self, size: tuple[int, int]) -> Tensor:
        return torch.rand(size, generator=self._random, device=self._device) + 0.5
