"""The bench of the cache in 8 bits: both variants are apart from the reference, and are told with intervals."""

from __future__ import annotations

import json

import pytest

from bench.quantization import kv_cache


def test_both_variants_are_scored_against_the_cache_in_full(capsys: pytest.CaptureFixture[str]) -> None:
    assert kv_cache.main(["--quick", "--against", "int8"]) == 0
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    for figures in line["variants"].values():
        value, low, high = figures["kl_all"]
        assert 0 < low <= value <= high
    assert list(line["variants"]) == ["fp8 cache", "int8"]
