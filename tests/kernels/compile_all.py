"""Compile every kernel ahead of time for the cards it must run on, and check its shared memory. Run as a script."""

from __future__ import annotations

import itertools
import re
import sys
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.experimental.gluon._runtime import GluonASTSource

from bench.decode.other_card import CARDS, later_instructions
from engine.model.cpu import kv_blocks
from engine.model.kernels.attention import (
    attend_few,
    attention,
    expanding,
    gating,
    tile_attention,
    tile_attention_hopper,
    walk_few,
)
from engine.model.kernels.compiling import _Target
from engine.model.kernels.delta import chunk, chunks, step
from engine.model.kernels.device import launch, plane
from engine.model.kernels.device.forms import MINIMA, ZEROS, Form
from engine.model.kernels.device.fragments import FragmentWeight
from engine.model.kernels.device.units import LUT_BYTES
from engine.model.kernels.products import (
    experts,
    linear,
    ordered,
    prefill,
    prefill_ampere,
    prefill_hopper,
    stream,
    strips,
    token,
)
from engine.model.kernels.routing import groups, router
from engine.model.kernels.sampling import sampling, threshold

SHARED_KIB = {capability: card.shared_kib - 1 for capability, card in CARDS.items()} | {90: 227}
"""What one block may have (CUDA programming guide, compute capabilities)."""
_FP32 = (
    "up_scales down_scales out logits scales weights parts cosine sine acc_parts stat_parts qkv bias floats work facts"
)
_FP16 = "x half inner normed query keys values gain q_gain k_gain mixed wide_keys wide_values"
_INT32 = (
    "table ids pairs groups live slots positions arrived integers bitmask seen last tokens wanted sources "
    "experts starts totals firsts counts tail order progress up_table down_table"
)
TYPES: dict[str, str] = {
    **dict.fromkeys(_FP32.split(), "*fp32"),
    **dict.fromkeys(_FP16.split(), "*fp16"),
    **dict.fromkeys(_INT32.split(), "*i32"),
    **dict.fromkeys(["T", "S", "V", "W", "RS", "G", "number", "blocks", "P", "M"], "i32"),
    **dict.fromkeys(["words", "up_words", "down_words"], "*i16"),
    "weight": "*bf16", "sums": "*i64", "state": "*i64", "eps": "fp32", "scale": "fp32",
}  # fmt: skip
_QKV: dict[str, Any] = {"LD": 5120, "K": 2048, "RESIDUAL": False}
_OUTPUT: dict[str, Any] = {"LD": 2048, "K": 4096, "NORM": 0, "RESIDUAL": True}
_CHOICE: dict[str, Any] = {"E": 128, "EP": 128, "C": 8, "I": 768, "T": 1, "GIVEN": False}
_GIVEN: dict[str, Any] = {**_CHOICE, "E": 513, "EP": 1024, "C": 11, "I": 512, "GIVEN": True}
FEW: dict[str, tuple[Any, dict[str, Any], int, int]] = {
    "linear": (linear.linear_kernel, {**_QKV, "NORM": 1, "COLUMNS": 1}, 32, 0),
    "linear_few": (linear.linear_kernel, {**_QKV, "NORM": 0, "COLUMNS": 8}, 32, 0),
    "linear_wide": (linear.linear_kernel, {**_OUTPUT, "COLUMNS": 1}, 64, 0),
    "linear_wide_few": (linear.linear_kernel, {**_OUTPUT, "COLUMNS": 8}, 64, 0),
    "gate_up_one": (experts.gate_up_one_kernel, {**_CHOICE, "K": 2048, "CP": 8, "NORM_TOPK": True}, 32, 96),
    "down_one": (experts.down_one_kernel, {**_CHOICE, "N": 2048}, 96, 0),
    "down_two": (experts.down_one_kernel, {**_CHOICE, "T": 2, "N": 2048}, 96, 0),
    "gate_up_one given": (experts.gate_up_one_kernel, {**_GIVEN, "K": 2048, "CP": 16, "NORM_TOPK": True}, 32, 64),
    "down_one given": (experts.down_one_kernel, {**_GIVEN, "N": 2048}, 88, 0),
    "linear fp32": (linear.linear_kernel, {**_QKV, "LD": 12288, "NORM": 1, "COLUMNS": 1}, 32, 0),
}
"""The few-token kernels at the product's sizes, the units that their sums run over, and gate and up's tiles."""
_NOTHING = torch.empty(0)
HOPPER = {
    name: f"tensordesc<fp16[{rows}, 128],{tile_attention_hopper.LAYOUT!r}>"
    for name, rows in (("query", 64), ("keys", 128), ("values", 128))
} | {"out": "*fp16"}
"""Attention's tensors where the copy engine is told of them."""
_UNDER_WAY = re.compile(r"wgmma\.wait_group\.sync\.aligned [1-9]")
Case = tuple[Any, dict[str, Any], int, dict[str, str], dict[str, Any]]


def _cap(constants: dict[str, Any]) -> dict[str, Any]:
    """The cap on registers, taken out of launch constants: an option of the compiler."""
    return {"maxnreg": constants.pop("maxnreg")} if "maxnreg" in constants else {}


def described(words: int) -> str:
    """The type of what the copy engine is told of so many words of a row of units."""
    return f"tensordesc<i16[{prefill_hopper.ROW_TILES}, {words}],{prefill_hopper.LAYOUT!r}>"


def cases(capability: int) -> list[Case]:
    """Kernel, constants, warps, types that differ, options; at the tile sizes of the product's model."""
    asm = {"ASM": True}
    flags = {**asm, "PDL": capability >= 90}
    pdl = {"PDL": capability >= 90}
    made: list[Case] = []
    for bits in (4, 8, 16) if capability == 90 else (4,):
        base: dict[str, Any] = {"BITS": bits, **flags}
        for kind, (kernel, shape, units, tiles) in FEW.items():
            kind, *more = kind.split()
            found, types = launch.lone(kind, units, bits, tiles=tiles), {"gain": "*fp32"} if "fp32" in more else {}
            warps, options = found.pop("num_warps"), _cap(found)
            made.append((kernel, {**shape, **base, **found}, warps, types, options))
    for bits in (4, 8, 16) if capability in (80, 90) else (4,):
        product: dict[str, Any] = {"K": 2048, "BITS": bits, **flags}
        half = "bf16" if bits == 16 else "fp16"
        bf16 = {(False, size): (shape, shape) for size, shape in launch.EXPERTS_BF16.items() if bits == 16}
        for (four, size), shapes in [*launch.EXPERTS.items(), *launch.EXPERTS_NARROW.items(), *bf16.items()]:
            for gate, (tiles, warps, stages, units, ahead) in zip((True, False), shapes, strict=True):
                if four == (bits == 4):
                    many = {"N": 1536 if gate else 2048, "C": 8, "R": tiles, "BT": size, "U": units, "GATE": gate}
                    many |= {**product, "K": 2048 if gate else 768, "AHEAD": ahead, "ONCE": True, "WARPS": warps}
                    types = {"x": f"*{half}", "out": f"*{half}" if gate else "*bf16"}
                    made.append((prefill.experts_kernel, many, warps, types, {"num_stages": stages}))
        for gate in (True, False) if capability == 90 else ():
            many = {"N": 1536 if gate else 2048, "K": 2048 if gate else 768, "C": 8, "GATE": gate, "BITS": bits, **asm}
            many |= {"R": prefill_hopper.ROW_TILES // 4, "BT": prefill_hopper.TOKENS, "S": prefill_hopper.STAGES[bits]}
            types = {"x": f"*{half}", "out": f"*{half}" if gate else "*bf16", "groups": "i32"}
            types |= dict.fromkeys(("words", "upper"), described(64 * bits))
            made.append((prefill_hopper.hopper_experts_kernel, many, 4, types, {}))
        shaped = [(size, shape, "fp16") for size, shape in launch.DENSE.items()]
        shaped += [(size, shape, "bf16") for size, shape in launch.DENSE_BF16.items() if bits == 16]
        for size, (tiles, warps, stages, units, ahead), of_x in shaped:
            dense = {**product, "N": 5120, "LD": 5120, "R": tiles, "BT": size, "S": 4, "U": units, "ADD": False}
            dense |= {"AHEAD": ahead if bits == 4 else 0, "ONCE": False, "WARPS": warps}
            made.append((prefill.product_kernel, dense, warps, {"x": f"*{of_x}"}, {"num_stages": stages}))
        for tokens, gate in itertools.product((2, 4, 8), (True, False)):
            weight = FragmentWeight(_NOTHING, _NOTHING, _NOTHING, *((1536, 2048) if gate else (2048, 768)), bits)
            strip = {"N": weight.rows, "C": 8, "BT": 8, "GATE": gate, **product, "K": weight.columns}
            strip |= launch.strips_shape(weight, tokens, not gate)
            warps, options = strip.pop("num_warps"), _cap(strip)
            made.append((strips.strips_kernel, strip, warps, {"out": "*fp16" if gate else "*fp32"}, options))
        pair = (FragmentWeight(_NOTHING, _NOTHING, _NOTHING, *size, bits) for size in ((1536, 2048), (2048, 768)))
        both = {"I": 768, "H": 2048, "C": 8, "GP": 256, "BITS": bits, **flags, **launch.stream_shape(*pair)}
        warps, options = both.pop("num_warps"), _cap(both)
        made += [(stream.stream_kernel, {**both, "BT": size}, warps, {}, options) for size in (8, 16)]
    expand = {"K": 2048, "R": 8, "BITS": 4, "WARPS": 4, **asm}
    made.append((prefill.expand_kernel, expand, 4, {"out": "*fp16"}, {}))
    depth = launch.attention_stages((capability // 10, capability % 10))
    tile = {"N": 32, "KH": 4, "D": 128, "B": kv_blocks.BLOCK, "G": 8, "BQ": 128, "BK": 64}
    made.append((tile_attention.tile_attention_kernel, tile, 8, {"out": "*fp16"}, {"num_stages": depth}))
    if capability in (80, 90):
        wide = {**tile, "N": 16, "KH": 2, "D": 256}
        depth = launch.attention_stages((capability // 10, 0), 256)
        made.append((tile_attention.tile_attention_kernel, wide, 8, {"out": "*fp16"}, {"num_stages": depth}))
    if capability == 90:
        hopper = {**tile, "BK": 128, "S": 2}
        made.append((tile_attention_hopper.hopper_attention_kernel, hopper, 4, HOPPER, {}))
    norm = {"H": 2048, "HP": 2048, "ALSO": True, **pdl}
    made.append((plane.norm_kernel, norm, 4, {"x": "*fp32", "out": "*fp16", "also": "*bf16"}, {}))
    route = {"E": 128, "EP": 128, "C": 8, "NORM_TOPK": True, **pdl}
    for rows, together in ((2, 1), (8, 8)):
        scores = {"H": 2048, "HP": 2048, "E": 128, "BE": rows, "TB": together, "STORE": rows == 2, **pdl}
        made.append((router.router_kernel, scores, 4, {"x": "*fp32"}, {}))
    sort = {"PP": 512, "SIZE": 8, "JP": 16, **pdl}
    made.append((router.sort_kernel, sort, 4, {}, {}))
    made.append((router.choose_each_kernel, {**route, "CP": 8, "SHARED": 0, "COUNT": False}, 4, {}, {}))
    shared = {**route, "E": 512, "EP": 512, "C": 10, "SHARED": 1}
    made.append((router.choose_each_kernel, {**shared, "CP": 16, "COUNT": True}, 1, {}, {}))
    made.append((router.route_kernel, {**route, "TP": 8, "GP": 64}, 8, {}, {}))
    block = {"TB": groups.TOKENS, "C": 8, "E": 128, "EP": 128, **pdl}
    order = {"E": 128, "BE": groups.EXPERTS, "BB": 512, **pdl}
    made.append((groups.choose_kernel, {**block, "LD": 128, "NORM_TOPK": True, "SHARED": 0}, 4, {}, {}))
    made.append((groups.order_kernel, order, 4, {}, {}))
    made.append((groups.place_kernel, {**block, "SIZE": 64}, 4, {}, {}))
    made.append((groups.choose_kernel, {**shared, "TB": groups.TOKENS // 2, "LD": 520}, 16, {}, {}))
    made.append((groups.order_kernel, {**order, "E": 513, "BB": 128}, 4, {}, {}))
    made.append((groups.place_kernel, {**block, "SIZE": 64, "E": 513, "EP": 1024, "C": 11}, 16, {}, {}))
    made.append(
        (
            plane.combine_kernel,
            {"H": 2048, "HP": 2048, "C": 8, "PLANE": True, **pdl},
            4,
            {"parts": "*bf16", "x": "*fp32"},
            {},
        )
    )
    heads = {"N": 32, "KH": 4, "D": 128, "B": kv_blocks.BLOCK, "CODES": 0, **pdl}
    turned = {**heads, "BH": 4, "NORM": True, "BIAS": False, "LD": 5120}
    made.append((attention.rope_kernel, {**turned, "PARTS": 4, "TB": 1}, 1, {}, {}))
    made.append((attention.rope_kernel, {**turned, "PARTS": 1, "TB": 4}, 4, {}, {}))
    for tokens in (1, 2, 4, 8):
        few = {**heads, **asm, "G": 8, "GP": 8, "MP": 16, "T": tokens, "R": attend_few.OWN, "LD": 5120}
        few |= {"NORM": True, "BIAS": False, **launch.few_attention(_NOTHING, tokens, 4, 128, 32)}
        warps = few.pop("num_warps")
        few.pop("CODES")
        made.append((attend_few.attend_few_kernel, few, warps, {"out": "*fp16"}, {}))
        if capability in (80, 90):
            large = {"N": 16, "KH": 2, "D": 256, "LD": 9216, **launch.few_attention(_NOTHING, tokens, 2, 256, 32)}
            warps = large.pop("num_warps")
            made.append((attend_few.attend_few_kernel, {**few, **large}, warps, {"out": "*fp16"}, {}))
    walk = {**heads, **asm, "G": 8, "GP": 8, "HP": 8, "T": 8, "LD": 5120, "NORM": True, "BIAS": False}
    walk |= launch.walking_shape(_NOTHING, 8, 4, False, True, 16)
    warps = walk.pop("num_warps")
    made.append((walk_few.walk_few_kernel, walk, warps, {"out": "*fp16"}, {}))
    gate = {"N": 4096, "LD": 9216, "PARTS": 2, "BN": 1024, "PLANE": True, **pdl}
    made.append((gating.gate_kernel, gate, 4, {"gates": "*fp32"}, {}))
    for tokens in (8, 32, 128):
        found = launch.attention_shape(tokens)
        stage = {"num_stages": found.pop("num_stages")}
        split = {**heads, "G": 8, "GP": 8, "MP": 16, "SP": attention.splits(tokens, 4), "PLANE": tokens > 8, **found}
        made.append((attention.attention_kernel, split, 4, {"out": "*fp16"}, stage))
    made.append((experts.combine_kernel, {"H": 2048, "HP": 2048, "C": 8, **pdl}, 8, {}, {}))
    made.append((token.embed_kernel, {"H": 2048, "HP": 2048, **pdl}, 4, {"table": "*bf16"}, {}))
    made.append((token.final_norm_kernel, {"H": 2048, "HP": 2048, **pdl}, 8, {"x": "*fp32", "out": "*bf16"}, {}))
    made.append((token.head_kernel, {"K": 2048, "KP": 2048, "BN": 8, **pdl}, 4, {"x": "*bf16"}, {}))
    own = {"K": 2048, "KP": 2048, **pdl}
    lone = {**own, **asm, "E": 128, "EP": 128, "C": 8, "CP": 8, "NORM_TOPK": True}
    made.append((ordered.order_chosen_kernel, lone, 8, {"out": "*fp16"}, {}))
    made.append((ordered.order_kernel, {**own, "NORM": True, "PLANE": False}, 8, {"out": "*fp16"}, {}))
    made.append((ordered.order_kernel, {**own, "NORM": False, "PLANE": True}, 4, {"out": "*fp16"}, {}))
    for per, plane_order in ((1, False), (ordered.TOGETHER, True)):
        grouped = {**own, "C": 8, "PER": per, "PLANE": plane_order}
        made.append((ordered.order_groups_kernel, grouped, 4 if plane_order else 8, {"out": "*fp16"}, {}))
    row = {"M": 75, **flags}
    walk = {**row, "MP": 128}
    made.append((sampling.apply_kernel, {**row, "FACTS": True, "FIRST": 3, "END": 5}, sampling.WARPS, {}, {}))
    for per in (1, 4):
        search = {**walk, "STAGE": 1, "LEVEL": 1, "LIMITED": True, "PER": per}
        made.append((threshold.search_kernel, search, sampling.WARPS, {}, {}))
        made.append((sampling.keep_kernel, {**walk, "PER": per}, sampling.WARPS, {}, {}))
    made.append((sampling.draw_kernel, {**walk, "FILTERED": True, "FACTS": True}, sampling.WARPS, {}, {}))
    return made


_DELTA = {
    **dict.fromkeys(["projected", "ba", "rate", "start", "state", "gates", "decays", "betas"], "*fp32"),
    **dict.fromkeys(["taps", "inputs", "solved", "scores", "found", "queries", "out"], "*fp16"),
    **dict.fromkeys(["rows", "first", "counts", "places", "table"], "*i32"), "kept": "*fp32", "tails": "*fp16",
    **dict.fromkeys(["stride", "ba_stride", "width", "start_stride", "tails_stride"], "i32"),
    **dict.fromkeys(["state_stride", "inputs_stride", "gates_stride"], "i32"),
}  # fmt: skip


def delta(capability: int) -> list[Case]:
    """The kernels of gated DeltaNet at the sizes of Qwen3-Coder-Next."""
    sizes = {"KH": 16, "VH": 32, "D": 128, "PDL": capability >= 90}
    ring, tile = {**sizes, "P": 512}, {**sizes, "L": chunks.CHUNK}
    tiles, solve, scan = (dict(found) for found in (launch.DELTA_TILES, launch.DELTA_SOLVE, launch.DELTA_SCAN))
    made: list[Case] = []
    types = {**_DELTA, "rows": "i32", "bias": "*fp32", "x": "*fp32", "x_gain": "*fp32", "x_weight": "*bf16"}
    for one, kept, hidden in ((True, False, 2048), (False, False, 2048), (False, True, 0)):
        few = {**ring, "ONE": one, "KEPT": kept, "PLANE": False, "H": hidden, "HP": max(1, hidden)}
        made.append((step.delta_step_kernel, few, step.WARPS, {**types, "x_eps": "fp32"}, {}))
    warps = tiles["num_warps"]
    made.append((chunks.prepare_kernel, {**ring, **tile}, warps, {**_DELTA, "values": "*fp16"}, {}))
    made.append((chunk.finish_kernel, {**ring, **tile, "PLANE": True}, warps, _DELTA, {}))
    made.append((chunks.solve_kernel, {**tile, "LEVELS": chunks.LEVELS}, solve["num_warps"], _DELTA, {}))
    stages = launch.attention_stages((capability // 10, capability % 10))
    scan = {**tile, "STAGES": stages, "KEEP": True, **scan}
    made.append((chunk.scan_kernel, scan, scan.pop("num_warps"), _DELTA, {}))
    return made


FORMS = (
    Form(8, 1, 2, e4m3=True, units=2), Form(4, 4, 3, table=True), Form(4, 1, 0, ZEROS, units=2),
    Form(4, 2, 5, MINIMA, True), Form(6, 4, 6, outer=True, signed=True), Form(5, 2, 0, MINIMA),
    Form(4, 2, 4, table=True),
)  # fmt: skip
"""FP8 in blocks, nl4 and nvfp4, GPTQ, Q4_K, Q6_K, Q5_1 and mxfp4: every kind of scales and codes."""


def ampere(gate: bool) -> Case:
    """The experts' products of a prefill before Hopper."""
    many = {"N": 1536 if gate else 2048, "K": 2048 if gate else 768, "C": 8, "GATE": gate, "ASM": True}
    many |= {"BITS": prefill_ampere.BITS, "R": prefill_ampere.ROW_TILES, "BT": prefill_ampere.TOKENS}
    many |= {"S": prefill_ampere.STAGES}
    types = {"x": "*fp16", "out": "*fp16" if gate else "*bf16"}
    return prefill_ampere.ampere_experts_kernel, many, 4, types, {}


def coded(capability: int) -> list[Case]:
    """Each of attention's kernels that read or write codes of 8 bits once, over such a cache."""
    found = {case[0]: case for case in cases(capability) if "CODES" in case[1] and case[1]["D"] == 128}
    instructions, types = {"CODES": 89 if capability >= 89 else 80}, {"keys": "*u8", "values": "*u8"}
    expand = (expanding.expand_kernel, {"KH": 4, "D": 128, "B": kv_blocks.BLOCK, **instructions}, 8, types, {})
    made = [
        (kernel, {**constants, **instructions}, warps, {**differing, **types}, options)
        for kernel, constants, warps, differing, options in found.values()
    ]
    near = launch.walking_shape(_NOTHING, 8, 4, True, False, 16)
    warps = near.pop("num_warps")
    walks = [case for case in made if case[0] is walk_few.walk_few_kernel]
    return [expand, *made, *((kernel, {**constants, **near}, warps, *rest) for kernel, constants, _, *rest in walks)]


def formed(capability: int) -> list[Case]:
    """One kernel of few tokens, one of many and Hopper's of experts in every form."""
    kernels = (linear.linear_kernel, prefill.product_kernel, prefill_hopper.hopper_experts_kernel)
    found = {case[0]: case for case in cases(capability) if case[0] in kernels and case[1]["BITS"] == 4}
    made: list[Case] = []
    for form in FORMS:
        for kernel, constants, warps, types, options in found.values():
            formed = {**constants, "BITS": form.kind} | ({"AHEAD": 0} if kernel is prefill.product_kernel else {})
            types = {**types, "scales": "*u8"}
            if kernel is prefill_hopper.hopper_experts_kernel:
                upper = max(form.bits - 4, 0) % 4
                formed["S"] = prefill_hopper.STAGES[form.bits]
                types |= {"words": described(64 * (form.bits - upper)), "upper": described(64 * (upper or form.bits))}
            made.append((kernel, formed, warps, types, options))
    return made


def chosen(capability: int) -> list[Case]:
    """All of them for the two data-centre generations; for the others those with inline assembly or large tiles, since
    the rest is plain Triton in under 17 KiB of shared memory."""
    made = cases(capability) + delta(capability)
    if capability in CARDS:
        made += [ampere(gate) for gate in (True, False)]
    if capability in (80, 90):
        return made + coded(capability) + formed(capability)
    plain = (tile_attention.tile_attention_kernel, router.route_kernel, chunk.scan_kernel)
    return [case for case in made if "ASM" in case[1] or case[0] in plain]


def check(capability: int, case: Case) -> str | None:
    """None, or what is wrong."""
    kernel, constants, warps, differing, options = case
    types = {name: "constexpr" if name in constants else {**TYPES, **differing}[name] for name in kernel.arg_names}
    aligned = {
        (i,): [["tt.divisibility", 16]] for i, name in enumerate(kernel.arg_names) if types[name].startswith("*")
    }
    values = {(kernel.arg_names.index(name),): value for name, value in constants.items()}
    source = (GluonASTSource if kernel.is_gluon() else ASTSource)(kernel, types, values, aligned)
    made = triton.compile(source, target=GPUTarget("cuda", capability, 32), options={"num_warps": warps, **options})
    if kernel in (prefill.experts_kernel, prefill.product_kernel) and _UNDER_WAY.search(made.asm["ptx"]):
        return f"{kernel.__name__} {constants} decodes into registers that a product under way may still read"
    if capability in CARDS and (found := later_instructions(made.asm["ptx"])):
        return f"{kernel.__name__} on sm_{capability} has {', '.join(found)}"
    bits = constants.get("BITS", 0)
    table = LUT_BYTES if bits == 4 or bits >> 15 & 1 else 0
    room = SHARED_KIB[capability] * 1024
    if made.metadata.shared + table > room:
        return f"{kernel.__name__} on sm_{capability}: {made.metadata.shared} + {table} bytes, {room} there"
    return None


def main() -> int:
    wrong = []
    for capability in SHARED_KIB:
        triton.runtime.driver.set_active(_Target(GPUTarget("cuda", capability, 32)))  # kernels ask what they are for
        compiled = chosen(capability)
        wrong += [found for case in compiled if (found := check(capability, case))]
        print(f"sm_{capability}: {len(compiled)} kernels")
    print("\n".join(wrong))
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
