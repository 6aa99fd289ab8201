"""What is kept of a row's way: bounded, far back thinly, and never changed under who shares it."""

from __future__ import annotations

import itertools

import torch

from engine.model.recurrent.trail import FED, PREFIX_SNAPSHOTS, SNAPSHOTS, SPACING, Fed, Snapshot, Trail


def snapshot(position: int) -> Snapshot:
    return Snapshot(position, torch.full((1, 1, 2, 2), float(position)), torch.zeros(1, 3, 4))


def fed(start: int, count: int) -> Fed:
    numbers = torch.arange(start, start + count, dtype=torch.float32)
    return Fed(start, numbers.view(1, -1, 1).expand(1, count, 4), *torch.zeros(2, 1, count, 1))


def walked(steps: int) -> Trail:
    trail = Trail()
    for at in range(0, steps, SPACING):
        trail.add([snapshot(at)] if at else [], fed(at, SPACING))
    return trail


def test_however_long_a_row_is_as_much_is_kept() -> None:
    trail = walked(100 * SPACING)
    assert len(trail.snapshots) == SNAPSHOTS
    assert trail.fed[-1].stop - trail.fed[0].start == FED
    assert trail.nbytes == walked(200 * SPACING).nbytes


def test_the_way_from_the_nearest_snapshot_is_at_most_twice_as_far_as_one_goes_back() -> None:
    for steps in range(2, 120):
        end = steps * SPACING
        places = [0, *(kept.position for kept in walked(end).snapshots)]
        assert places == sorted(set(places))
        assert places[-1] == end - SPACING
        assert all(after - before <= 2 * (end - after) for before, after in itertools.pairwise(places)), places


def test_what_tokens_fed_is_found_from_any_place_that_is_kept() -> None:
    trail = walked(20 * SPACING)
    first, end = trail.fed[0].start, 20 * SPACING
    found = trail.since(first + 5, end - 7)
    assert found is not None
    assert found.inputs[0, :, 0].tolist() == list(range(first + 5, end - 7))
    assert trail.since(first - 1, end) is None
    assert trail.since(first, end + 1) is None


def test_of_a_long_prefix_its_end_is_kept() -> None:
    end = 50 * SPACING
    kept = walked(end + SPACING).lean(end + 5)
    assert len(kept.snapshots) == PREFIX_SNAPSHOTS
    assert kept.fed[0].start == kept.snapshots[-1].position
    assert kept.fed[-1].stop == end + 5


def test_who_shares_a_trail_does_not_see_the_others_steps() -> None:
    trail = walked(4 * SPACING)
    prefix = trail.lean(3 * SPACING + 9)
    size = prefix.nbytes
    trail.add([snapshot(4 * SPACING)], fed(4 * SPACING, SPACING))
    back = trail.upto(2 * SPACING)
    back.add([], fed(2 * SPACING, 3))
    assert prefix.nbytes == size
    assert [kept.position for kept in prefix.snapshots] == [SPACING, 2 * SPACING, 3 * SPACING]
    assert (prefix.fed[0].start, prefix.fed[-1].stop) == (3 * SPACING, 3 * SPACING + 9)
    assert trail.fed[-1].stop == 5 * SPACING
