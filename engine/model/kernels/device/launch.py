"""How kernels are launched here: inline assembly and dependent launch where the device has them."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

import torch
import triton
from torch import Tensor


def capability() -> tuple[int, int]:
    """The card that kernels are compiled for, as Triton names it. Every choice between cards' code asks here."""
    return divmod(triton.runtime.driver.active.get_current_target().arch, 10)


@cache
def _multiprocessors(index: int) -> int:
    return torch.cuda.get_device_properties(index).multi_processor_count


def multiprocessors(tensor: Tensor) -> int:
    """How many blocks that take all of a multiprocessor run at once where the tensor is."""
    return _multiprocessors(tensor.device.index or 0)


RELEASE: dict[str, int] = dict.fromkeys(
    (
        "attend_few", "down_one 8", "down_one 16", "down_two 8", "down_two 16", "linear_few 8", "linear_few 16",
        "linear_wide 8", "linear_wide_few 4", "linear_wide_few 8", "rope", "router", "strips_down", "combine_few",
    ), 2,
)  # fmt: skip
"""When a kernel, of some bits, lets the next one start, where not as it says itself (`units.release_next`); measured.
What starts early has its weights there sooner, and takes bandwidth from whoever is ahead."""


def options(tensor: Tensor, kernel: str = "") -> dict[str, Any]:
    """The constexprs ASM and PDL, and the launch attribute that PDL needs."""
    if not tensor.is_cuda:
        return {"ASM": False, "PDL": 0}
    dependent = capability() >= (9, 0)
    return {"ASM": True, "PDL": RELEASE.get(kernel, 1) if dependent else 0, "launch_pdl": dependent}


def dependent(tensor: Tensor, kernel: str = "") -> dict[str, Any]:
    """`options` without ASM."""
    chosen = options(tensor, kernel)
    chosen.pop("ASM")
    return chosen


def is_hopper(tensor: Tensor) -> bool:
    """Whether kernels in Gluon for sm_90 run where the tensor is: no earlier or later card has its instructions."""
    return _runs_gluon(tensor) and capability() == (9, 0)


def is_ampere(tensor: Tensor) -> bool:
    """Whether kernels in Gluon for cards from sm_80 to before Hopper run where the tensor is."""
    return _runs_gluon(tensor) and (8, 0) <= capability() < (9, 0)


def _runs_gluon(tensor: Tensor) -> bool:
    """Triton before 3.6 has another way of writing it."""
    return tensor.is_cuda and tuple(int(part) for part in triton.__version__.split(".")[:2]) >= (3, 6)


def code_instructions(tensor: Tensor) -> int:
    """Which cards' instructions read codes of 8 bits (`attention.entries`) where the tensor is: sm_89's or sm_80's."""
    return 89 if capability() >= (8, 9) else 80


def attention_stages(capability: tuple[int, int], head: int = 128) -> int:
    """Pipeline depth of the prefill's attention: cards with 100 KiB of shared memory a block hold one stage, and of
    heads of 256 none; elsewhere such heads take the room of two."""
    if capability in ((8, 6), (8, 9)):
        return 1
    return 3 if head <= 128 else 2 if capability >= (9, 0) else 1


def stages(tensor: Tensor, head: int = 128) -> int:
    """`attention_stages` of the tensor's device; 1 where nothing is pipelined."""
    return attention_stages(capability(), head) if tensor.is_cuda else 1


def chunk(blocks: int, most: int) -> int:
    """The largest power of two that divides `blocks`, at most `most`."""
    return min(blocks & -blocks, most)


Product = tuple[int, int, int, int, int]
"""Row tiles, warps, pipeline stages, units a turn, and what of 4-bit weights is loaded a turn early: 0 nothing, 1 codes
and scales, 2 scales, 3 as 1, and our own formats' weights are scaled before they are multiplied."""
EXPERTS: dict[tuple[bool, int], tuple[Product, Product]] = {
    (True, 16): ((4, 4, 3, 2, 1), (4, 4, 3, 2, 1)),
    (True, 32): ((4, 4, 4, 1, 0), (8, 8, 3, 2, 0)),
    (True, 64): ((8, 4, 3, 1, 2), (4, 4, 3, 1, 1)),
    (True, 128): ((8, 8, 3, 2, 1), (8, 8, 3, 2, 1)),
    (False, 16): ((8, 8, 3, 1, 0), (8, 8, 3, 1, 0)),
    (False, 32): ((4, 4, 4, 1, 0), (4, 4, 4, 1, 0)),
    (False, 64): ((4, 4, 3, 1, 0), (4, 4, 3, 1, 0)),
    (False, 128): ((16, 8, 3, 1, 0), (16, 8, 3, 1, 0)),
}
"""The experts' products of gate and up, and of down, by 4-bit weights or not and by the tokens of a block."""
EXPERTS_BF16: dict[int, Product] = {64: (8, 8, 4, 1, 0)}
"""Both of 16-bit weights, where that is faster."""
NARROW = 512
"""Inner sizes up to this have entries of their own where those of larger ones are slower."""
EXPERTS_NARROW: dict[tuple[bool, int], tuple[Product, Product]] = {(True, 32): ((8, 4, 3, 2, 3), (8, 4, 3, 1, 3))}
Strips = tuple[int, int, int, int]
"""Warps of a block, warps that share a strip, strips a warp, units a turn."""
STRIPS: dict[int, tuple[Strips, Strips]] = {
    4: ((4, 1, 2, 2), (4, 1, 2, 2)), 8: ((4, 1, 1, 2), (4, 1, 2, 1)),
    16: ((4, 1, 1, 1), (4, 1, 2, 1)), 5: ((4, 1, 1, 4), (4, 1, 1, 4)),
}  # fmt: skip
"""The experts' products of gate and up, and of down, by bits, one by one."""
STRIPS_FEW: dict[tuple[int, int], tuple[Strips, Strips]] = {
    (4, 2): ((4, 1, 1, 4), (4, 1, 1, 2)), (4, 4): ((4, 1, 1, 4), (4, 1, 2, 2)),
    (8, 2): ((4, 2, 1, 4), (4, 2, 1, 2)), (8, 4): ((4, 2, 2, 2), (4, 2, 2, 2)),
    (16, 2): ((4, 2, 2, 2), (4, 2, 2, 2)),
}  # fmt: skip
"""The same for up to two and up to four tokens, where that is faster."""
ONE_BY_ONE = 16
"""Up to so many tokens the products go one by one; above, in one launch (`products.stream`)."""
Stream = tuple[int, int, int, int, int]
"""Warps of a block, strips a warp and units a turn of gate and up, and the same two of down."""
STREAM: dict[int, Stream] = {4: (4, 2, 1, 2, 1), 8: (4, 2, 2, 2, 2), 16: (8, 1, 1, 1, 1)}
STREAM_ELSE: Stream = (4, 2, 2, 2, 2)
"""The same of other tools' formats, and of 4-bit weights with a `NARROW` inner size."""
STREAM_BLOCKS = 5
"""Blocks of a multiprocessor that both products together are launched with."""
DENSE: dict[int, Product] = {
    16: (4, 4, 4, 1, 0), 32: (4, 4, 3, 2, 0), 64: (4, 4, 4, 1, 0), 128: (8, 8, 3, 1, 0),
}  # fmt: skip
"""Dense products, by the tokens of a block."""
DENSE_BF16: dict[int, Product] = {64: (4, 4, 3, 2, 0)}
"""The same with activations in bf16, where that is faster."""
DENSE_BLOCKS = 256
"""Blocks that such a product is split into at least, where its columns allow it."""


def experts_tiles(gate_up: Any, down: Any, size: int) -> tuple[Product, Product]:
    """The experts' products of `size` tokens a block."""
    if gate_up.bits == down.bits == 16 and size in EXPERTS_BF16:
        return EXPERTS_BF16[size], EXPERTS_BF16[size]
    of_gate, of_down = (
        (EXPERTS_NARROW if down.columns <= NARROW and key in EXPERTS_NARROW else EXPERTS)[key]
        for key in ((weight.bits == 4, size) for weight in (gate_up, down))
    )
    return of_gate[0], of_down[1]


def product_shape(found: Product, size: int, weight: Any, splits: int = 1) -> dict[str, Any]:
    """Launch constants of a product of `size` tokens a block over a fragment weight."""
    most, warps, stages, units, ahead = found
    if weight.summed and weight.bits == 8:
        most = min(most, 8)  # a scale for each of 256 rows, and registers are spilled
    tiles = cheap(chunk(weight.rows // 16, most), warps, weight.pairs)
    warps = warps if tiles == most else 4
    ahead = 1 if ahead == 3 and weight.kind != 4 else ahead
    return {
        "R": tiles, "BT": size, "U": chunk(weight.columns // 64 // splits, units), "BITS": weight.kind,
        "AHEAD": ahead if weight.bits == 4 and weight.summed else 0, "WARPS": warps, "num_warps": warps,
        "num_stages": stages,
    }  # fmt: skip


def strips_shape(weight: Any, tokens: int, down: bool) -> dict[str, Any]:
    """Launch constants of one product by strips; sizes that are smaller than the product's get fewer of each."""
    few = STRIPS_FEW.get((weight.bits, 2 if tokens <= 2 else 4)) if tokens <= 4 else None
    warps, sharing, rows, units = (few or STRIPS.get(weight.bits, STRIPS[4]))[down]
    tiles, blocks = weight.rows // 16, weight.columns // 64
    sharing = chunk(blocks, sharing)
    strips = chunk(tiles, warps // sharing)
    return {
        "W": strips * sharing, "Q": sharing, "ROWS": chunk(tiles // strips, rows), "U": chunk(blocks // sharing, units),
        "WARPS": strips * sharing, "num_warps": strips * sharing,
    }  # fmt: skip


def stream_shape(gate_up: Any, down: Any) -> dict[str, Any]:
    """Launch constants of both products in one launch."""
    narrow = gate_up.kind == 4 and down.columns <= NARROW
    warps, up_rows, up_units, down_rows, down_units = STREAM_ELSE if narrow else STREAM.get(gate_up.kind, STREAM_ELSE)
    warps = min(chunk(weight.rows // 16, warps) for weight in (gate_up, down))
    return {
        "W": warps, "UP_ROWS": chunk(gate_up.rows // 16 // warps, up_rows),
        "UP_U": chunk(gate_up.columns // 64, up_units), "DOWN_ROWS": chunk(down.rows // 16 // warps, down_rows),
        "DOWN_U": chunk(down.columns // 64, down_units), "WARPS": warps, "num_warps": warps,
    }  # fmt: skip


def stream_blocks(tensor: Tensor) -> int:
    """How many blocks share both products: as many as the device holds at once, or one that does all."""
    return STREAM_BLOCKS * multiprocessors(tensor) if tensor.is_cuda else 1


def few_attention(tensor: Tensor, tokens: int, kv_heads: int, head: int, most: int) -> dict[str, int]:
    """Launch constants of `attention.attend_few`: each token's heads have `most` blocks at most, and all together no
    more than there are multiprocessors, each of which holds one, with one a head for the step's own tokens. Heads
    beyond 128 are shared by 16 warps: else registers are spilled."""
    held = multiprocessors(tensor) if tensor.is_cuda else 8 * tokens * kv_heads
    blocks = max(1, min(most, held // (tokens * kv_heads) - 1))
    warps = 8 if head <= 128 else 16
    return {
        "SP": blocks, "BK": 64, "LEAST": 64, "J": max(4, 16 // tokens), "WARPS": warps, "num_warps": warps,
    }  # fmt: skip


WALK_BLOCKS = {4: 3, 8: 1}
"""Blocks of `attention.walk_few` that a multiprocessor holds, by their warps: as many as registers allow, of codes."""
WALK_SPLITS = 32
"""The most of them that share one head's cache of one token."""


def walking_shape(tensor: Tensor, tokens: int, kv_heads: int, codes: bool, far: bool, most: int) -> dict[str, int]:
    """Launch constants of that: no more blocks, at most `most` a head, than are held at once; over long caches (`far`)
    of fp16, or of two tokens at most, of 8 warps."""
    lone = tokens <= 2
    warps = 8 if not codes or (far and lone) else 4
    held = WALK_BLOCKS[warps] * (multiprocessors(tensor) if tensor.is_cuda else 8 * tokens * kv_heads)
    blocks = max(1, min(WALK_SPLITS, most, held // (tokens * kv_heads)))
    return {
        "SP": blocks, "LEAST": 128 if lone else 256, "J": 16 if lone else 8, "WARPS": warps, "num_warps": warps,
    }  # fmt: skip


DELTA_TILES = {"num_warps": 8}
"""A head's channels of a chunk."""
DELTA_SOLVE = {"num_warps": 4}
DELTA_SCAN = {"BV": 32, "num_warps": 4}
"""Columns of the state that a block takes through a row's chunks. With 16 and one pipeline stage Triton 3.6 places
shared memory that is not there."""


def attention_shape(tokens: int) -> dict[str, int]:
    """Keys of a turn, pipeline stages, the keys that a block takes at least (with many tokens there are blocks enough
    without cutting short caches), and the partial results that are joined a turn."""
    if tokens <= 8:
        return {"BK": 64, "num_stages": 2, "LEAST": 64, "J": 4}
    if tokens <= 32:
        return {"BK": 64, "num_stages": 3, "LEAST": 8 * tokens, "J": 2}
    return {"BK": 32, "num_stages": 4, "LEAST": min(1024, 8 * tokens), "J": 2}


def cheap(units: int, warps: int, pairs: int) -> int:
    """So many units at once, at most, that Triton takes loads of `pairs` numbers each for cheap (fewer than threads):
    those it makes anew in the layout that a product wants, where others pass through shared memory."""
    while units > 1 and units * pairs >= 32 * warps:
        units //= 2
    return units


Lone = tuple[int, int, int, int, int]
"""Warps of a block, tiles that they share, the turns whose words are requested and those that are decoded before the
wait for the input, and the registers of a thread (0: what the compiler likes)."""
LONE: dict[str, Lone] = {
    "linear": (4, 1, 8, 4, 0),
    "linear 8": (8, 1, 4, 2, 0),
    "linear 16": (4, 1, 8, 0, 0),
    "linear_few": (4, 1, 8, 2, 0),
    "linear_wide": (16, 1, 4, 2, 0),
    "linear_wide 8": (8, 1, 8, 2, 0),
    "linear_wide 16": (8, 1, 8, 0, 0),
    "linear_wide_few": (8, 1, 8, 8, 0),
    "linear_wide_few 8": (8, 1, 8, 2, 0),
    "gate_up_one": (8, 2, 8, 0, 72),
    "gate_up_one 8": (8, 2, 4, 0, 72),
    "gate_up_one 16": (4, 1, 4, 0, 80),
    "down_one": (8, 1, 12, 2, 0),
    "down_one 8": (16, 1, 6, 0, 0),
    "down_one 16": (8, 1, 8, 0, 0),
    "down_one numbers": (16, 1, 6, 0, 0),
    "down_two": (8, 1, 12, 0, 0),
    "down_two 16": (8, 1, 4, 0, 128),
}
"""Products of one token or few (down_two: of one of two), for all bits or those that are named, or for other tools'
numbers (`FragmentWeight.numbers`); measured (docs/performance.md)."""


def lone(kernel: str, blocks: int, bits: int | str, *, tiles: int = 0) -> dict[str, Any]:
    """Launch constants of a lone token's product whose sum runs over `blocks` units: with `tiles`, of gate and up."""
    warps, shared, ahead, early, registers = LONE.get(f"{kernel} {bits}", LONE[kernel])
    shared = chunk(tiles, shared) if tiles else 1
    warps = chunk(blocks, warps // shared) * shared
    turns = blocks * shared // warps
    found: dict[str, Any] = {"AHEAD": min(ahead, turns), "WARPS": warps, "num_warps": warps}
    found |= {"TILES": shared} if tiles else {"EARLY": min(early, turns)}
    if registers:
        found["maxnreg"] = registers
    return found


_MAX_DYNAMIC_SHARED = 8
"""CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES."""
_opted_in: set[Any] = set()


def compiled_key(kernel: Any, arguments: tuple[Any, ...], constants: dict[str, Any]) -> Any:
    """What tells compiled forms of a kernel apart for one card: constants, and the types and alignment of tensors."""
    kinds = tuple((value.dtype, value.data_ptr() % 16) for value in arguments if isinstance(value, Tensor))
    return kernel, kinds, tuple(sorted(constants.items()))


def start(kernel: Any, grid: tuple[int, ...], *arguments: Any, **constants: Any) -> None:
    """Launch a kernel whose static table and Triton's own shared memory together may pass 48 KiB.

    Triton asks the driver for more than 48 KiB by its own count alone, which leaves the table out; so we ask, once per
    compiled kernel. Costs a set look-up a launch.
    """
    if constants["ASM"] and (key := (capability(), compiled_key(kernel, arguments, constants))) not in _opted_in:
        compiled = kernel.warmup(*arguments, grid=grid, **constants)
        if compiled is None:
            return  # kernels are being collected, not launched
        compiled._init_handles()
        status = ctypes.CDLL("libcuda.so.1").cuFuncSetAttribute(
            ctypes.c_void_p(compiled.function), _MAX_DYNAMIC_SHARED, compiled.metadata.shared
        )
        assert status == 0, f"the driver refused {compiled.metadata.shared} bytes of shared memory: {status}"
        _opted_in.add(key)
    kernel[grid](*arguments, **constants)
