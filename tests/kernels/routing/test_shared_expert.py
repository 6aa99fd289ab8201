"""Routing where one expert is everybody's, in the interpreter against its twins."""

from __future__ import annotations

import pytest
import torch

from engine.model.kernels.products import strips
from engine.model.kernels.routing import groups, router
from engine.model.kernels.routing.choice import choose
from tests.kernels.weights import distance, random_weight

EXPERTS, CHOSEN = 12, 4


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def logits_of(tokens: int, experts: int = EXPERTS) -> torch.Tensor:
    return torch.randn(tokens, experts + 1)


def test_the_last_expert_is_everybodys_with_the_sigmoid_of_its_logit() -> None:
    logits = logits_of(5)
    ids, weights = choose(logits, CHOSEN, True, shared=True)
    plain = choose(logits[:, :-1], CHOSEN - 1, True)
    assert torch.equal(ids[:, :-1], plain[0])
    assert torch.equal(weights[:, :-1], plain[1])
    assert bool((ids[:, -1] == EXPERTS).all())
    assert torch.equal(weights[:, -1], logits[:, -1].sigmoid())


@pytest.mark.parametrize("norm_topk", [True, False])
def test_each_token_chooses(norm_topk: bool) -> None:
    logits, live, made = logits_of(4), torch.tensor([3], dtype=torch.int32), []
    for function in (router.choose_each, router.choose_each_reference):
        ids, counts = torch.full((2, 4 * CHOSEN), -7, dtype=torch.int32)
        weights = torch.zeros(4 * CHOSEN)
        function(logits, live, ids, weights, counts, chosen=CHOSEN, norm_topk=norm_topk, shared=True)
        made.append((ids, counts, weights[: 3 * CHOSEN]))
    (ids, counts, weights), expected = made
    assert torch.equal(ids, expected[0])
    assert counts.view(4, CHOSEN)[:, :-1].tolist() == [[1] * (CHOSEN - 1)] * 3 + [[0] * (CHOSEN - 1)]
    assert counts.view(4, CHOSEN)[:, -1].tolist() == [3, 0, 0, 0]
    assert torch.equal(counts, expected[1])
    torch.testing.assert_close(weights, expected[2], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("tokens", "live"), [(1, 1), (5, 5), (8, 6)])
def test_few_tokens_read_the_shared_expert_together(tokens: int, live: int) -> None:
    weights = random_weight(4, EXPERTS + 1, 128, 64), random_weight(4, EXPERTS + 1, 64, 64)
    x, pairs = torch.randn(tokens, 64).half(), router.lone_pairs(tokens, CHOSEN, torch.device("cpu"))
    limit = torch.tensor([live], dtype=torch.int32)
    choice = {"chosen": CHOSEN, "norm_topk": True, "shared": True}
    router.choose_each(logits_of(tokens), limit, pairs.ids, pairs.weights, pairs.groups[2], **choice)
    assert int((pairs.groups[2] > 0).sum()) == live * (CHOSEN - 1) + 1
    made = []
    for function in (strips.strips_product, strips.strips_product_reference):
        inner, parts = torch.zeros(len(pairs.ids), 64).half(), torch.full((len(pairs.ids), 64), float("nan"))
        function(x, pairs, *weights, inner, parts, chosen=CHOSEN)
        made.append(parts)
    assert bool(made[0][: live * CHOSEN].isfinite().all())
    assert bool(made[0][live * CHOSEN :].isnan().all())
    assert distance(made[0][: live * CHOSEN], made[1][: live * CHOSEN]) < 1e-3


@pytest.mark.parametrize(("tokens", "experts"), [(20, EXPERTS), (70, EXPERTS), (20, 300)])
def test_tokens_by_expert(tokens: int, experts: int) -> None:
    logits, live = logits_of(tokens, experts), torch.tensor([tokens - 3], dtype=torch.int32)
    found = groups.group(logits, live, chosen=CHOSEN, norm_topk=True, size=16, shared=True)
    expected = groups.group_reference(logits, live, chosen=CHOSEN, norm_topk=True, size=16, shared=True)
    pairs = (tokens - 3) * CHOSEN
    assert torch.equal(found.pairs[:pairs], expected.pairs[:pairs])
    torch.testing.assert_close(found.weights[:pairs], expected.weights[:pairs], atol=1e-6, rtol=1e-5)
    used = found.groups.count > 0
    for name in ("expert", "start", "count"):
        assert torch.equal(getattr(found.groups, name)[used], getattr(expected.groups, name)[used])
    assert int(found.groups.count[found.groups.expert == experts].sum()) == tokens - 3
