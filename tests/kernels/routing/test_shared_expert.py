"""Routing where one expert is everybody's, in the interpreter against its twins."""

from __future__ import annotations

import pytest
import torch

from engine.model.kernels.routing import groups, router
from engine.model.kernels.routing.choice import choose

EXPERTS, CHOSEN = 12, 4


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def logits_of(tokens: int) -> torch.Tensor:
    return torch.randn(tokens, EXPERTS + 1)


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
    assert counts.tolist() == expected[1].tolist() == [1] * (3 * CHOSEN) + [0] * CHOSEN
    torch.testing.assert_close(weights, expected[2], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("tokens", [20, 70])
def test_tokens_by_expert(tokens: int) -> None:
    logits, live = logits_of(tokens), torch.tensor([tokens - 3], dtype=torch.int32)
    found = groups.group(logits, live, chosen=CHOSEN, norm_topk=True, size=16, shared=True)
    expected = groups.group_reference(logits, live, chosen=CHOSEN, norm_topk=True, size=16, shared=True)
    pairs = (tokens - 3) * CHOSEN
    assert torch.equal(found.pairs[:pairs], expected.pairs[:pairs])
    torch.testing.assert_close(found.weights[:pairs], expected.weights[:pairs], atol=1e-6, rtol=1e-5)
    used = found.groups.count > 0
    for name in ("expert", "start", "count"):
        assert torch.equal(getattr(found.groups, name)[used], getattr(expected.groups, name)[used])
    assert int(found.groups.count[found.groups.expert == EXPERTS].sum()) == tokens - 3
