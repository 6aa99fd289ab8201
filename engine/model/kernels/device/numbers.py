"""A block's number among those that ask a counter, on its way while the block does something else.

Under the interpreter, which has no inline assembly, it is there at once.
"""

from __future__ import annotations

import triton
import triton.language as tl

_TAKE = tl.constexpr(
    "{\n.reg .pred p;\n.reg .u32 t;\nmov.u32 t, %tid.x;\nsetp.eq.u32 p, t, 0;\nmov.u32 $0, 0;\n"
    "@p atom.global.relaxed.gpu.add.u32 $0, [$1], 1;\n}"
)
"""The first thread asks for the next number, and goes on while it comes."""
_SHARE = tl.constexpr(
    "{\n.shared .align 4 .b32 number;\n.reg .pred p;\n.reg .u32 t;\nmov.u32 t, %tid.x;\nsetp.eq.u32 p, t, 0;\n"
    "@p st.shared.u32 [number], $1;\nbar.sync 0;\nld.shared.u32 $0, [number];\nbar.sync 0;\n}"
)


@triton.jit
def take_number(counter, ASM: tl.constexpr):
    """Ask for the next number; `share_number` gives it to all threads."""
    if ASM:
        number = tl.inline_asm_elementwise(
            _TAKE, "=&r,l", [counter.to(tl.uint64, bitcast=True)], dtype=tl.int32, is_pure=False, pack=1
        )
    else:
        number = tl.atomic_add(counter, 1)
    return number


@triton.jit
def share_number(number, ASM: tl.constexpr):
    if ASM:
        number = tl.inline_asm_elementwise(_SHARE, "=r,r", [number], dtype=tl.int32, is_pure=False, pack=1)
    return number
