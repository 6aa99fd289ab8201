"""The few-token kernels in Triton's interpreter against their plain-torch references.

Bounds: products accumulate in fp32 in another order (1e-6); what is rounded to fp16 may differ in the last bit (5e-4).
"""

from __future__ import annotations

import pytest
import torch

from engine.model.cpu.kv_blocks import BLOCK
from engine.model.kernels.attention import attend_few, attention, joining
from engine.model.kernels.attention.attention import Cache, HeadNorm, Step
from engine.model.kernels.device.fragments import (
    FragmentWeight,
    fragment_codes,
    fragment_scales,
    pair_table,
    unfragment,
)
from engine.model.kernels.products import experts, linear, strips, token
from engine.model.kernels.routing import router
from engine.model.kernels.routing.router import Pairs, Routes, group_bound
from engine.model.weights.codebook import codebook
from tests.kernels.weights import NF4, distance, random_weight, stored_as

EXPERTS, HIDDEN, INNER, CHOSEN = 6, 128, 64, 3


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def few_splits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Caches of 300 positions have work for 7 blocks at most: those beyond 8 would only find none."""
    monkeypatch.setattr(attention, "SPLITS", 4)


@pytest.mark.parametrize("quantization", ["nf4", "fp4", "int4"])
def test_a_fragment_weight_holds_the_values_of_the_codes(quantization: str) -> None:
    table = codebook(quantization, torch.device("cpu"))
    codes = torch.randint(0, 16, (32, 192), dtype=torch.uint8)
    absmax = torch.rand(32, 3) + 0.1
    weight = FragmentWeight(fragment_codes(codes), fragment_scales(absmax), pair_table(table), 32, 192, 4)
    expected = (table.half().float()[codes.long()].view(32, 3, 64) * absmax.unsqueeze(-1)).view(32, 192)
    assert torch.equal(unfragment(weight), expected)


def test_sizes_that_no_unit_divides_are_refused() -> None:
    with pytest.raises(ValueError, match="40 rows"):
        fragment_codes(torch.zeros(40, 64, dtype=torch.uint8))


@pytest.mark.parametrize("bits", [4, 8, 16])
@pytest.mark.parametrize("tokens", [1, 3, 17])
def test_linear(bits: int, tokens: int) -> None:
    weight = random_weight(bits, 32, 192)
    x = torch.randn(tokens, 192).half()
    out, expected = (torch.full((tokens, 32), float("nan")) for _ in range(2))
    linear.linear(x, weight, out)
    linear.linear_reference(x, weight, expected)
    assert distance(out, expected) < 1e-6


@pytest.mark.parametrize(("bits", "tokens"), [(4, 1), (8, 1), (8, 2)])
def test_linear_with_norm_and_with_residual(bits: int, tokens: int) -> None:
    weight, gain = random_weight(bits, 128, 128), (torch.rand(128) + 0.5).half()
    half = (torch.randn(tokens, 128) / 64).half()
    out, expected = torch.empty(tokens, 128), torch.empty(tokens, 128)
    linear.linear(half, weight, out, gain=gain, eps=1e-6)
    linear.linear_reference(half, weight, expected, gain=gain, eps=1e-6)
    assert distance(out, expected) < 1e-6
    stream = torch.randn(3, 128)
    results = []
    for function in (linear.linear, linear.linear_reference):
        out, halves, x = stream.clone(), torch.empty(3, 128).half(), torch.ones(3, 128).half()
        function(x, weight, out, half=halves)
        results.append((out, halves))
    assert distance(results[0][0], results[1][0]) < 1e-6
    assert distance(results[0][1], results[1][1]) < 5e-4


def make_routes(tokens: int) -> Routes:
    pairs, integer = tokens * CHOSEN, torch.int32
    return Routes(
        torch.empty(tokens, EXPERTS), torch.zeros(pairs, dtype=integer), torch.zeros(pairs), torch.zeros(pairs,
        dtype=integer),
        torch.full((3, group_bound(tokens, CHOSEN, EXPERTS)), 5, dtype=integer),
    )  # fmt: skip


@pytest.mark.parametrize("tokens", [1, 2, 9])
def test_router(tokens: int) -> None:
    x, gain, weight = torch.randn(tokens, HIDDEN), torch.rand(HIDDEN), torch.randn(EXPERTS, HIDDEN).bfloat16()
    made = []
    for function in (router.router, router.router_reference):
        logits, normed = torch.empty(tokens, EXPERTS), torch.empty(tokens, HIDDEN).half()
        function(x, gain, weight, normed, logits, eps=1e-6)
        made.append((logits, normed))
    assert distance(made[0][0], made[1][0]) < 1e-6
    assert distance(made[0][1], made[1][1]) < 5e-4


LOGITS = {
    "random": lambda tokens: torch.randn(tokens, EXPERTS),
    "all tokens on one expert, and one nobody chose": lambda tokens: torch.tensor([9.0, 8, 7, 0, 0, -9]).repeat(
        tokens, 1
    ),
    "ties": lambda tokens: torch.zeros(tokens, EXPERTS),
}


@pytest.mark.parametrize("kind", LOGITS)
@pytest.mark.parametrize("norm_topk", [True, False])
def test_route(kind: str, norm_topk: bool) -> None:
    live = torch.tensor([10], dtype=torch.int32)
    logits, made = LOGITS[kind](11), []
    for function in (router.route, router.route_reference):
        routes = make_routes(11)
        routes.logits.copy_(logits)
        function(routes, live, chosen=CHOSEN, norm_topk=norm_topk)
        made.append(routes)
    pairs = 10 * CHOSEN
    assert torch.equal(made[0].ids[:pairs], made[1].ids[:pairs])
    assert torch.equal(made[0].pairs[:pairs], made[1].pairs[:pairs])
    assert torch.allclose(made[0].weights[:pairs], made[1].weights[:pairs])
    assert torch.equal(made[0].groups * (made[0].groups[2] > 0), made[1].groups)
    assert int(made[0].groups[2].sum()) == pairs


@pytest.mark.parametrize("bits", [4, 8, 16])
@pytest.mark.parametrize("kind", ["random", "all tokens on one expert, and one nobody chose"])
def test_experts_of_several_tokens(bits: int, kind: str) -> None:
    tokens, live = 9, torch.tensor([9], dtype=torch.int32)
    gate_up, down = random_weight(bits, EXPERTS, 2 * INNER, HIDDEN), random_weight(bits, EXPERTS, HIDDEN, INNER)
    routes = make_routes(tokens)
    routes.logits.copy_(LOGITS[kind](tokens))
    router.route(routes, live, chosen=CHOSEN, norm_topk=True)
    pairs = Pairs(routes.ids, routes.weights, routes.pairs, routes.groups, 8)
    x, inner = torch.randn(tokens, HIDDEN).half(), torch.zeros(tokens * CHOSEN, INNER).half()
    parts, expected = (torch.full((tokens * CHOSEN, HIDDEN), float("nan")) for _ in range(2))
    strips.strips_product(x, pairs, gate_up, down, inner, parts, chosen=CHOSEN)
    strips.strips_product_reference(x, pairs, gate_up, down, inner, expected, chosen=CHOSEN)
    assert distance(parts, expected) < 1e-4


ROUTED = [
    *((bits, kind, True, 1) for bits in (4, 8, 16) for kind in LOGITS),
    *((bits, kind, False, 1) for bits, kind in zip((4, 8, 16), LOGITS, strict=True)),
    *((bits, kind, True, 2) for bits, kind in zip((4, 8, 16), LOGITS, strict=True)),
]
"""Each value beside each one of the others: experts are chosen before the weights' width is looked at."""


@pytest.mark.parametrize(("bits", "kind", "norm_topk", "tokens"), ROUTED)
def test_experts_of_tokens_alone(bits: int, kind: str, norm_topk: bool, tokens: int) -> None:
    gate_up, down = random_weight(bits, EXPERTS, 2 * INNER, HIDDEN), random_weight(bits, EXPERTS, HIDDEN, INNER)
    logits, inner = LOGITS[kind](tokens), torch.zeros(tokens * CHOSEN, INNER).half()
    x, stream = torch.randn(tokens, HIDDEN).half(), torch.randn(tokens, HIDDEN)
    made = []
    for function in (experts.experts_one, experts.experts_one_reference):
        out, half = stream.clone(), torch.empty(tokens, HIDDEN).half()
        function(x, logits, gate_up, down, inner, out, half, chosen=CHOSEN, norm_topk=norm_topk)
        made.append((out, half))
    assert distance(made[0][0], made[1][0]) < 1e-4
    assert distance(made[0][1], made[1][1]) < 1e-3


def test_linear_with_a_norm_whose_gain_is_fp32() -> None:
    """A product is rounded once where the twin rounds nothing: 2^-11 of each at most."""
    weight, gain, half = random_weight(4, 32, 128), torch.rand(128) + 0.5, (torch.randn(2, 128) / 64).half()
    out, expected = torch.empty(2, 32), torch.empty(2, 32)
    linear.linear(half, weight, out, gain=gain, eps=1e-6)
    linear.linear_reference(half, weight, expected, gain=gain, eps=1e-6)
    assert distance(out, expected) < 5e-4


@pytest.mark.parametrize("bits", [4, 8, 16])
@pytest.mark.parametrize("tokens", [1, 2])
def test_experts_that_were_chosen_before(bits: int, tokens: int) -> None:
    gate_up, down = random_weight(bits, EXPERTS, 2 * INNER, HIDDEN), random_weight(bits, EXPERTS, HIDDEN, INNER)
    ids = torch.stack([torch.randperm(EXPERTS)[:CHOSEN] for _ in range(tokens)]).int().view(-1)
    given = router.Pairs(ids, torch.rand(len(ids)), ids, ids, 8)
    logits, inner = torch.full((tokens, EXPERTS), float("nan")), torch.zeros(tokens * CHOSEN, INNER).half()
    x, stream, made = torch.randn(tokens, HIDDEN).half(), torch.randn(tokens, HIDDEN), []
    for function in (experts.experts_one, experts.experts_one_reference):
        out, half = stream.clone(), torch.empty(tokens, HIDDEN).half()
        function(x, logits, gate_up, down, inner, out, half, chosen=CHOSEN, norm_topk=True, pairs=given)
        made.append((out, half))
    assert distance(made[0][0], made[1][0]) < 1e-4
    assert distance(made[0][1], made[1][1]) < 1e-3


def test_combine_leaves_padding_alone() -> None:
    parts, gain, live = torch.randn(3 * CHOSEN, HIDDEN), torch.rand(HIDDEN), torch.tensor([2], dtype=torch.int32)
    parts[2 * CHOSEN :] = float("nan")
    stream, made = torch.randn(3, HIDDEN), []
    for function in (experts.combine, experts.combine_reference):
        out, half, normed = stream.clone(), torch.empty(3, HIDDEN).half(), torch.empty(3, HIDDEN).half()
        function(parts, out, half, gain, normed, live, chosen=CHOSEN, eps=1e-6)
        made.append((out, half, normed))
    for value, expected in zip(*made, strict=True):
        assert distance(value, expected) < 5e-4
    assert torch.equal(made[0][0][2], stream[2])


@pytest.mark.usefixtures("few_splits")
@pytest.mark.parametrize("kept", ["fp16", "fp8"])
def test_rope_and_attention_over_short_and_split_caches(kept: str) -> None:
    heads, kv, dim, length = 8, 2, 32, 300
    integer = torch.int32
    slots, positions = (
        torch.tensor([0, 0, 1, 2, 2, 0], dtype=integer),
        torch.tensor([200, 201, 0, 64, 299, 7], dtype=integer),
    )
    step = Step(slots, slots, positions, torch.tensor([5], dtype=integer))  # the sixth token is padding
    angles = torch.outer(torch.arange(length).float(), 1e4 ** (-torch.arange(dim // 2) / (dim // 2)))
    norm = HeadNorm(torch.rand(dim), torch.rand(dim), torch.randn((heads + 2 * kv) * dim), 1e-6)
    qkv = torch.randn(6, (heads + 2 * kv) * dim)
    table, made = torch.randperm(12, dtype=integer)[:9].view(3, 3), []
    stored = [stored_as(kept, torch.randn(12, kv, BLOCK, dim).half()) for _ in range(2)]
    for rope, attend in (
        (attention.rope, attention.attention),
        (attention.rope_reference, attention.attention_reference),
    ):
        cache = Cache(stored[0].clone(), stored[1].clone(), table)
        query, out = torch.empty(6, heads * dim).half(), torch.full((6, heads * dim), float("nan")).half()
        rope(qkv, norm, (angles.cos(), angles.sin()), step, query, cache)
        scratch = attention.make_scratch(6, heads, kv, dim, torch.device("cpu"))
        for _ in range(2):  # the second run finds the counters as the first did
            attend(query, cache, step, scratch, out)
        made.append((cache, out))
    assert torch.equal(made[0][0].keys, made[1][0].keys)
    assert torch.equal(made[0][0].values, made[1][0].values)
    block, beside = table[0, 0], slice(7 * dim, 8 * dim)
    written, before = (part[block].flatten(1)[:, beside] for part in (made[0][0].keys, stored[0]))
    assert torch.equal(written, before), "padding wrote to the cache"
    assert distance(made[0][1][:5], made[1][1][:5]) < 5e-4


WAYS = [("fp16", False), ("fp16", True), ("fp8", False), ("fp8", True)]
"""How entries are kept, and whether caches are called long: two kernels, and one of them in two shapes."""
LONE = [([2], [position], 1) for position in (0, 63, 64, 200, 299)]
SEVERAL = [
    ([0, 1, 1, 1, 2], [0, 126, 127, 128, 299], 5), ([1] * 8, [*range(60, 68)], 8), ([2, 2, 0], [0, 1, 64], 3),
    ([0, 1, 1], [257, 128, 129], 2),
]  # fmt: skip
"""Slots and positions of a step's tokens, and how many are live: rows alone, drafts, the first tokens of a cache."""
PLACED = [*((*case, True, "fp16", False) for case in LONE + SEVERAL), (*SEVERAL[0], True, "fp16", True)]
PLACED += [(*case, False, kept, far) for case in (LONE[-1], SEVERAL[0]) for kept, far in WAYS]
"""Without a bias once for each way: it is added before anything is looked for by position."""


@pytest.mark.usefixtures("few_splits")
@pytest.mark.parametrize(("slots", "positions", "live", "biased", "kept", "far"), PLACED)
def test_attention_with_its_rope(
    slots: list[int], positions: list[int], live: int, biased: bool, kept: str, far: bool
) -> None:
    tokens, heads, kv, dim, length, integer = len(slots), 8, 2, 32, 300, torch.int32
    angles = torch.outer(torch.arange(length).float(), 1e4 ** (-torch.arange(dim // 2) / (dim // 2)))
    bias = torch.randn((heads + 2 * kv) * dim) if biased else None
    norm = HeadNorm(torch.rand(dim), torch.rand(dim), bias, 1e-6)
    qkv = torch.randn(tokens, (heads + 2 * kv) * dim)
    table = torch.randperm(12, dtype=integer)[:9].view(3, 3)
    stored, made = stored_as(kept, torch.randn(2, 12, kv, BLOCK, dim).half()), []
    step = Step(*(torch.tensor(part, dtype=integer) for part in (slots, slots, positions, [live])), far=far)
    for function in (attend_few.attend_few, attend_few.attend_few_reference):
        cache = Cache(stored[0].clone(), stored[1].clone(), table)
        query, out = torch.empty(tokens, heads * dim).half(), torch.full((tokens, heads * dim), float("nan")).half()
        scratch = joining.make_parts(tokens, heads, kv, dim, torch.device("cpu"))
        for _ in range(2):  # the second run finds the counters as the first did
            function(qkv, norm, (angles.cos(), angles.sin()), step, cache, scratch, query, out)
        made.append((cache, out[:live]))
    assert distance(made[0][1], made[1][1]) < 5e-4
    assert torch.equal(made[0][0].keys, made[1][0].keys)
    assert torch.equal(made[0][0].values, made[1][0].values)


def test_a_padded_lone_token_leaves_the_cache_alone() -> None:
    cache = Cache(*torch.randn(2, 1, 2, BLOCK, 32).half(), torch.zeros(1, 1, dtype=torch.int32))
    before, zero = cache.keys.clone(), torch.zeros(1, dtype=torch.int32)
    turns, out = (torch.ones(70, 16), torch.ones(70, 16)), torch.zeros(1, 256).half()
    scratch = joining.make_parts(1, 8, 2, 32, torch.device("cpu"))
    step = Step(zero, zero, zero, zero)
    attend_few.attend_few(torch.randn(1, 384), HeadNorm(None, None, None, 1e-6), turns, step, cache, scratch, out, out)
    assert torch.equal(cache.keys, before)


def test_embed_final_norm_and_head() -> None:
    table, gain = torch.randn(50, 96).bfloat16(), torch.rand(96)
    tokens, slots = torch.tensor([3, -1, 4], dtype=torch.int32), torch.tensor([0, 1, 0], dtype=torch.int32)
    last, wanted = torch.tensor([7, 9], dtype=torch.int32), torch.tensor([2, 0], dtype=torch.int32)
    made = []
    for embed, norm, head in (
        (token.embed, token.final_norm, token.head),
        (token.embed_reference, token.final_norm_reference, token.head_reference),
    ):
        out, half, normed = torch.empty(3, 96), torch.empty(3, 96).half(), torch.empty(3, 96).half()
        embed(tokens, slots, last, table, gain, out, half, normed, eps=1e-6)
        final, logits = torch.empty(2, 96).half(), torch.empty(1, 50)
        norm(out, wanted, gain, final, eps=1e-6)
        head(final[:1], table.half(), logits)
        made.append((out, half, normed, final, logits))
    for value, expected in zip(*made, strict=True):
        assert distance(value, expected) < 5e-4
    assert torch.equal(made[0][0][1], table[9].float())


def test_nf4_values_in_fp16_stay_within_half_a_last_bit() -> None:
    assert float(((NF4.half().float() - NF4).abs() / NF4.abs().clamp(min=1e-9)).max()) <= 2.0**-11
