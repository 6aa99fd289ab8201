"""The key/value cache of the GPU runner in blocks: how many fit, and copies of single ones.

Layout [layers, 2, blocks, K, B, D]: keys and values, K heads, B positions of a block, D head size; of codes of 8 bits
(`kernels.attention.entries`) [layers, 2, blocks, K, B (D + 1)].
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from engine.errors import ModelError
from engine.model.architecture.shape import Shape
from engine.model.cpu.kv_blocks import BLOCK, BlockTables, Copy

RESERVE = 2 << 30
"""Bytes kept for activations, logits and graphs, since the cache may take all the rest."""


CODES = torch.uint8
"""The dtype of a cache in 8 bits."""


def position_bytes(shape: Shape, dtype: torch.dtype = torch.float16) -> int:
    """Bytes of one position's keys and values in all layers that have any."""
    head = shape.head_dim + 1 if dtype == CODES else shape.head_dim * dtype.itemsize
    return shape.caching * 2 * shape.kv_heads * head


def tables_that_fit(
    shape: Shape, positions: int, slots: int, free: int, dtype: torch.dtype = torch.float16
) -> BlockTables:
    """Blocks for all slots at their full length of `positions`, or as many as fit; ModelError where not even one row
    fits, naming the length that would."""
    each = position_bytes(shape, dtype)
    needed = each + (4 * shape.kv_heads * shape.head_dim if dtype == CODES else 0)  # and a layer in fp16, for prefills
    usable, most = max(0, free - RESERVE), -(-positions // BLOCK)
    fitting = usable // (needed * BLOCK)
    if fitting >= most:
        return BlockTables(min(slots * most, fitting), slots, most, position_bytes=each)
    longest = fitting * BLOCK
    advice = f"max_sequence={longest} would fit" if longest else "use a smaller quantization or a larger device"
    raise ModelError(
        f"one request of max_sequence={positions} needs {most * BLOCK * needed / 2**30:.2f} GiB of KV cache, "
        f"{usable / 2**30:.2f} GiB are free beside the weights: {advice}",
        param="max_sequence",
    )


def make_cache(shape: Shape, blocks: int, device: torch.device, dtype: torch.dtype = torch.float16) -> Tensor:
    """Zeros, so that no stale NaN is ever read behind a mask."""
    part = (BLOCK * (shape.head_dim + 1),) if dtype == CODES else (BLOCK, shape.head_dim)
    return torch.zeros(shape.caching, 2, blocks, shape.kv_heads, *part, dtype=dtype, device=device)


def copy_blocks(cache: Tensor, copies: Sequence[Copy]) -> None:
    """Copy whole blocks, one after another."""
    for source, target in copies:
        cache[:, :, target].copy_(cache[:, :, source])


def told(tables: BlockTables, positions: int) -> str:
    """What the cache holds, for people: its bytes, and how many rows of full length that is."""
    rows, blocks = tables.slots, tables.free
    enough = f"{rows} rows of {positions:,} positions" if blocks >= rows * tables.most else (
        f"{blocks * tables.size:,} positions, shared by up to {rows} rows of up to {positions:,}"
    )  # fmt: skip
    return f"KV cache: {blocks * tables.block_bytes / 2**30:.2f} GiB for {enough}"
