"""The mask-overhead bench: its line's keys, and that they balance."""

from __future__ import annotations

import json

from bench.mask_overhead import __main__ as mask_overhead

KEYS = {"loop", "batch", "schema_set", "overlap", "forced", "ms_per_step"}
KEYS |= {"mask_hidden_us", "mask_exposed_us", "exposed_share"}


def test_quick_run_has_its_documented_keys_and_its_figures_balance(tmp_path, capsys):
    assert mask_overhead.main(["--quick", "--out", str(tmp_path)]) == 0
    line = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert line["bench"] == "mask_overhead"
    assert len(line["runs"]) == 4
    for run in line["runs"]:
        assert run.keys() >= KEYS
        assert run["steps"] > 0
        assert run["ms_per_step"] > 0
        assert 0 <= run["exposed_share"] <= 1
        if not run["overlap"]:
            assert run["mask_hidden_us"] == 0
            assert run["mask_exposed_us"] > 0
    drafted = [run["tokens_per_step"] for run in line["runs"] if run["forced"] == "verify"]
    stepwise = [run["tokens_per_step"] for run in line["runs"] if run["forced"] == "off"]
    assert min(drafted) > 1
    assert set(stepwise) == {1.0}
