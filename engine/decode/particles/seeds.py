"""Seeds of particles and of proposals, none of which may repeat another request's or each other's numbers."""

from __future__ import annotations

import hashlib
import struct

from engine.decode.step.sampler import uniform

_SPACE = 1 << 64
_COIN = 1 << 32
"""Beyond every position of a text."""


def derived(seed: int, index: int) -> int:
    """The seed of part `index` of what has this seed."""
    data = struct.pack("<QQ", seed % _SPACE, index)
    return int.from_bytes(hashlib.blake2b(data, digest_size=8, person=b"maskloop-part").digest(), "little")


def coin(seed: int, position: int) -> float:
    """A random number in [0, 1) beside the one that draws the token at this position."""
    return uniform(seed, _COIN + position)
