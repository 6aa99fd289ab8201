"""The walk: a token needs its bit and the matcher's word, to a stop token; each walk is repeated afresh."""

from __future__ import annotations

import numpy

from bench.conformance.walk import walk

STOP = 5


class Scripted:
    """Takes the tokens of `script` in order. `liar` accepts nothing although the mask allows it."""

    made = 0

    def __init__(self, script, liar=False):
        Scripted.made += 1
        self.script, self.liar = list(script), liar

    def fill(self, mask):
        mask[:] = 0
        mask[0] = 1 << (self.script[0] if self.script else STOP)

    def accept(self, token):
        assert token == (self.script[0] if self.script else STOP)
        self.script = self.script[1:]
        return not self.liar


def run(script, ids, repeats=3, stops=(4, STOP), **options):
    return walk(lambda: Scripted(script, **options), ids, stops, numpy.zeros(1, dtype=numpy.int32), repeats)


def test_a_document_is_accepted_to_any_stop_token():
    done = run([1, 2], [1, 2])
    assert (done.accepted, done.tokens, done.cause) == (True, 3, "")
    assert len(done.fill_us) == len(done.accept_us) == 3


def test_a_token_without_its_bit_ends_the_walk():
    done = run([1, 2], [1, 3])
    assert (done.accepted, done.tokens, done.cause) == (False, 1, "mask")


def test_a_document_that_stops_early_lacks_its_stop_bit():
    assert run([1, 2], [1]).cause == "mask"


def test_a_matcher_that_refuses_its_own_mask_is_told_apart():
    assert run([1], [1], liar=True).cause == "accept"


def test_the_walk_is_repeated_with_a_fresh_matcher_and_keeps_the_smallest_time_of_each_step():
    Scripted.made = 0
    assert len(run([1, 2], [1, 2], repeats=4).fill_us) == 3
    assert Scripted.made == 4
