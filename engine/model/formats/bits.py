"""Codes out of the words that files pack them into, and into our own layout."""

from __future__ import annotations

import torch
from torch import Tensor


def octets_of(tensor: Tensor) -> Tensor:
    """uint8 [..., n] of any tensor's bytes. A column alone counts as contiguous whatever its stride, and `view` would
    not take it; not every operation knows the 8-bit floats."""
    return tensor.contiguous().unsqueeze(-1).view(torch.uint8).flatten(-2)


def unpack_words(words: Tensor, bits: int) -> Tensor:
    """int32 [..., W] -> uint8 [..., 32 W / bits] of codes of 4 or 8 bits, the lowest bits of a word first."""
    octets = octets_of(words)
    return octets if bits == 8 else unpack_low_first(octets)


def unpack_low_first(octets: Tensor) -> Tensor:
    """uint8 [..., W] -> uint8 [..., 2W]: the low nibble of a byte is the first of its two codes."""
    return torch.stack((octets & 15, octets >> 4), -1).flatten(-2)


def swap_nibbles(octets: Tensor) -> Tensor:
    """From low nibble first to high nibble first, or back."""
    return octets << 4 | octets >> 4


def pack_nibbles(codes: Tensor, columns: int) -> Tensor:
    """uint8 [..., K] below 16 -> uint8 [..., columns / 2], high nibble first, with codes 0 behind the K-th."""
    padded = torch.nn.functional.pad(codes, (0, columns - codes.shape[-1]))
    return padded[..., 0::2] << 4 | padded[..., 1::2]


def pack_plane(codes: Tensor, bits: int) -> Tensor:
    """uint8 [R, K] below 2^bits (1 or 2) -> uint8 [R, K bits / 8], the first code in the highest bits."""
    shifts = torch.arange(8 - bits, -1, -bits, dtype=torch.uint8, device=codes.device)
    return (codes.view(*codes.shape[:-1], -1, 8 // bits) << shifts).sum(-1, dtype=torch.uint8)
