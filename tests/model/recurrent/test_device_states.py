"""The states of a GPU's rows without a model: wherever a row goes back to, its state is the one that it had there."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import pytest
import torch
from torch import Tensor

from engine.interfaces import RowInput
from engine.model.architecture.shape import DeltaNet
from engine.model.cuda import device_states
from engine.model.cuda.device_states import PAGE, DeviceStates
from engine.model.kernels.delta.memory import TAPS, DeltaWeights, Rows
from engine.model.kernels.delta.step import delta_step_reference
from engine.model.recurrent.places import Places
from tests.kernels.delta.cases import random_step, rows_of

HEADS, LAYERS, LONGEST = (1, 2, 4), 2, 3000
TOKENS = 7


class Walk:
    """Rows of a model whose layers are all recurrent; each of few tokens feeds something else."""

    def __init__(self, slots: int) -> None:
        torch.manual_seed(0)
        keys, values, size = HEADS
        channels = (2 * keys + values) * size
        taps = torch.randn(LAYERS, TAPS, channels)
        self.states = DeviceStates(DeltaNet(keys, values, size, size), taps, slots=slots, positions=LONGEST)
        ones = torch.ones(values)
        self._weights = [DeltaWeights(layer, ones - 3, ones - 2, torch.ones(size), 1e-6) for layer in taps]
        self._fed = [random_step(TOKENS, layer.memory) for layer in self.states.layers()]
        self.fed_again = 0

    def go(self, *rows: RowInput) -> None:
        rows = self._begin(rows)
        for row in rows:
            where = rows_of([len(row.tokens)], [row.slot], [row.position])
            for layer, weights, fed in zip(self.states.layers(), self._weights, self._fed, strict=True):
                out = torch.empty(len(row.tokens), HEADS[1] * HEADS[2])
                inputs = [part[list(row.tokens)] for part in fed]
                delta_step_reference(*inputs, weights, Rows(*where), layer.memory, out)
        self.states.end(rows)

    def keep(self, *rows: RowInput) -> None:
        """As `go`, but what is kept is not computed: for who asks where it is alone."""
        self.states.end(self._begin(rows))

    def _begin(self, rows: Sequence[RowInput]) -> tuple[RowInput, ...]:
        before = sum(len(row.tokens) for row in rows)
        rows = tuple(self.states.begin(rows))
        self.fed_again += sum(len(row.tokens) for row in rows) - before
        assert max(self.states.places(rows)) < 0, "steps of few tokens"
        return rows

    def state(self, slot: int) -> Tensor:
        return self.states.memory.state[:, slot].clone()


class Ways:
    """What each row was fed, and its state after each of its tokens."""

    def __init__(self, slots: int) -> None:
        self.walk, self.dice = Walk(slots), random.Random(4)
        empty = torch.zeros_like(self.walk.state(0))
        self.tokens: list[list[int]] = [[] for _ in range(slots)]
        self.seen = [[empty] for _ in range(slots)]

    def forward(self, slots: Sequence[int], steps: int) -> None:
        for _ in range(steps):
            new = {slot: self.dice.randrange(TOKENS) for slot in slots}
            self.walk.go(*(RowInput(slot, [token], len(self.tokens[slot])) for slot, token in new.items()))
            for slot, token in new.items():
                self.tokens[slot].append(token)
                self.seen[slot].append(self.walk.state(slot))

    def back(self, slot: int, position: int) -> None:
        """And a draft of some tokens from there, which is taken back."""
        draft = [self.dice.randrange(TOKENS) for _ in range(self.dice.randint(1, 4))]
        self.walk.go(RowInput(slot, draft, position))
        self.walk.states.rewind(slot, position)
        assert torch.allclose(self.walk.state(slot), self.seen[slot][position], atol=1e-6)
        del self.tokens[slot][position:], self.seen[slot][position + 1 :]


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


def test_2000_rollbacks_at_random_points_equal_never_having_gone_there() -> None:
    ways = Ways(1)
    ways.forward([0], 600)
    for _ in range(2000):
        end = len(ways.tokens[0])
        far = 500 if ways.dice.random() < 0.01 else ways.dice.choice((1, 2, 4, 8, 16, 40))
        ways.back(0, max(0, end - ways.dice.randint(0, far)))
        ways.forward([0], min(ways.dice.choice((1, 1, 2, 5, 12, 31)), LONGEST - 20 - len(ways.tokens[0])))
    assert not ways.walk.fed_again


def test_rows_beside_each_other_go_back_each_for_itself() -> None:
    ways = Ways(3)
    for _ in range(60):
        slots = ways.dice.sample(range(3), ways.dice.randint(1, 3))
        ways.forward(slots, ways.dice.choice((1, 10, 70)))
        ways.back(slots[0], ways.dice.randint(0, len(ways.tokens[slots[0]])))


@pytest.mark.parametrize("end", [700, 1500, 2900])
def test_the_way_to_any_of_the_last_500_tokens_is_short(end: int) -> None:
    """Of a row alone: 560 tokens take 4 ms at the size of Qwen3-Coder-Next."""
    walk = Walk(1)
    for position in range(end):
        walk.keep(RowInput(0, [position % TOKENS], position))
    row = walk.states._rows[0]
    for position in range(end - 500, end):
        base = max((copy.position for copy in row.copies if copy.position <= position), default=0)
        assert position - base <= 560
        assert row.remembers(base, position)


@pytest.mark.parametrize("end", [700, 1111])
def test_of_eight_rows_in_step_any_of_the_last_500_tokens_is_a_short_way(end: int) -> None:
    """127 tokens take 1 ms a row at the size of Qwen3-Coder-Next; tokens fed again would take a prefill."""
    walk = Walk(32)
    for position in range(end):
        walk.keep(*(RowInput(slot, [position % TOKENS], position) for slot in range(8)))
    for row in walk.states._rows[:8]:
        for back in range(1, 501):
            base = max(copy.position for copy in row.copies if copy.position <= end - back and copy.place is not None)
            assert end - back - base <= (64 if back <= 8 else 127)
            assert row.remembers(base, end - back)


def test_who_holds_a_place_for_longest_loses_it() -> None:
    places = Places(3, 7)
    first, second, third, fourth = (places.take(position) for position in range(4))
    freed = second.place
    del second
    fifth = places.take(4)
    assert fifth.place == freed
    assert places.take(5).place == 3
    assert first.place is None
    assert {held.place for held in (third, fourth, fifth)} == {4, 5, 6}


def test_pages_that_others_took_are_missed_and_nothing_else_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_states, "PAGES", 2)
    ways = Ways(2)
    ways.forward([0], 5 * PAGE)
    ways.forward([1], 5 * PAGE)
    ways.back(1, 2 * PAGE + 1)
    assert not ways.walk.fed_again
    ways.back(0, 5)
    assert ways.walk.fed_again


def test_where_little_memory_is_free_less_is_kept() -> None:
    kind, taps = DeltaNet(1, 2, 4, 4), torch.randn(LAYERS, TAPS, 16)
    pages, places = [], []
    for free in (0, 40_000, 1 << 40):
        states = DeviceStates(kind, taps, slots=2, positions=LONGEST, free=free)
        pages.append(len(states._pages))
        places.append(len(states._copies) + 1)
    assert pages == sorted(pages)
    assert pages[0] == 1
    assert pages[-1] == device_states.PAGES
    assert places[0] == 2 + device_states.STORED < places[1] < places[2] == 2 + device_states.SPARE
