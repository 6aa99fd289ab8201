"""The study runs whole on a tiny model, its line is consistent, two runs agree, and its reference is named honestly."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from bench.quantization import __main__ as quantization
from bench.quantization import trained
from bench.quantization.plot import plot_quantization
from bench.quantization.synthetic import errors
from bench.quantization.variants import FORMATS, Variant, bytes_per_token, is_changed, make
from engine.model.files.source import Source, embedded_gguf
from engine.model.source_format import reference_label, source_format, weight_hashes


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return run(tmp_path_factory.mktemp("study"))


def run(out: Path) -> dict[str, Any]:
    assert quantization.main(["--quick", "--device", "cpu", "--out", str(out)]) == 0
    lines = (out / "quantization.jsonl").read_text().splitlines()
    plain: dict[str, Any] = json.loads(lines[-1])
    return plain


def test_the_line_has_every_variant_with_its_control(line: dict[str, Any]) -> None:
    assert [row["variant"] for row in line["scores"]] == ["reference", "nf4", "noise~nf4", "int8", "noise~int8"]
    assert [row["format"] for row in line["documents"]] == ["random", "nf4", "int8"]
    assert line["reference"] == "random"
    assert line["seeds"] == [0]
    assert len(line["data_sha256"]) == 64


def test_figures_are_consistent(line: dict[str, Any]) -> None:
    rows = {row["variant"]: row for row in line["scores"]}
    assert rows["reference"]["kl_all"] == [0, 0, 0]
    for name in ("nf4", "int8"):
        row, control = rows[name], rows[f"noise~{name}"]
        assert control["relative_rms"] == pytest.approx(row["relative_rms"], rel=0.05)
        assert row["legal_share"][0] == pytest.approx(row["kl_legal"][0] / row["kl_all"][0])
        assert row["mass"][0] == pytest.approx(rows["reference"]["mass"][0] + row["mass_shift"][0])
        assert row["kl_all"][0] >= row["kl_mass"][0] >= 0
        for value in row.values():
            if isinstance(value, list):
                assert value[1] <= value[0] <= value[2]
    assert rows["nf4"]["kl_all"][0] > rows["int8"]["kl_all"][0] > 0
    assert rows["nf4"]["bits_per_weight"] < rows["int8"]["bits_per_weight"] < 16


def test_every_document_is_valid_and_the_reference_agrees_with_itself(line: dict[str, Any]) -> None:
    assert all(row["valid"] == [1, 1, 1] for row in line["documents"])
    assert line["documents"][0]["agree_all"] == [1, 1, 1]


def test_two_runs_with_one_seed_give_the_same_table(line: dict[str, Any], tmp_path: Path) -> None:
    clock = {"tokens_per_s", "load_s"}
    again = run(tmp_path)
    assert again["scores"] == line["scores"]
    strip = [[{k: v for k, v in row.items() if k not in clock} for row in one["documents"]] for one in (line, again)]
    assert strip[0] == strip[1]


SMALL = {
    "hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32,
    "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 64, "vocab_size": 300,
}  # fmt: skip


def test_a_trained_model_is_scored_on_text_that_it_has_not_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trained, "FULL", SMALL)
    folder = tmp_path / "model"
    few = ["--steps", "3", "--batch", "2", "--window", "32", "--chars", "200000", "--device", "cpu"]
    assert trained.main(["--out", str(folder), *few]) == 0
    calibration, evaluation = folder / "calibration.jsonl", folder / "evaluation.txt"
    texts = ["--calibrate", str(calibration), "--text", str(evaluation)]
    settings = ["--formats", "nf4,nl4", "--limit", "3", "--device", "cpu", "--out", str(tmp_path)]
    assert quantization.main([str(folder), *texts, *settings]) == 0
    told = json.loads((tmp_path / "quantization.jsonl").read_text())
    rows = {row["variant"]: row for row in told["scores"]}
    assert list(rows) == ["reference", *(n + v for v in ("nf4", "nl4", "nl4+calibrated") for n in ("", "noise~"))]
    assert (told["reference"], told["documents"]) == ("bf16", [])
    assert rows["nf4"]["kl_of_nf4"] == [1, 1, 1]
    assert rows["reference"]["tokens"] == 3 * 255
    for name in ("nl4", "nl4+calibrated"):
        assert rows[name]["kl_all"] == pytest.approx(rows[name]["kl_legal"])
        assert rows[name]["kl_of_nf4"][0] == pytest.approx(rows[name]["kl_all"][0] / rows["nf4"]["kl_all"][0])
        assert rows[name]["bits_per_weight"] == rows["nf4"]["bits_per_weight"]
    assert rows["nl4+calibrated"]["relative_rms"] > rows["nl4"]["relative_rms"]


def test_texts_are_apart_and_their_files_are_of_the_library() -> None:
    texts = trained.divided(300_000)
    assert all(texts.values())
    assert sum(map(len, texts["training"])) >= 10 * sum(map(len, texts["evaluation"]))
    seen = {text for use in texts.values() for text in use}
    assert len(seen) == sum(len({*use}) for use in texts.values())


def test_made_up_weights_are_told_with_the_error_of_their_products() -> None:
    rows = {(row["weights"], row["format"]): row for row in errors(["bf16", "nf4", "nl4"], 0)}
    assert len(rows) == 3 * 3
    for weights in ("gaussian", "student-t 5", "student-t 3"):
        nf4, plain, fed = (rows[weights, name] for name in ("nf4", "nl4", "nl4+calibrated"))
        assert plain["output_rms"] ** 2 < 0.8 * nf4["output_rms"] ** 2
        assert fed["output_rms"] ** 2 < 0.55 * nf4["output_rms"] ** 2
        assert fed["relative_rms"] > plain["relative_rms"]


def test_the_plot_shows_every_format(line: dict[str, Any], tmp_path: Path) -> None:
    files = plot_quantization(line["reference"], line["scores"], tmp_path)
    assert {file.suffix for file in files} == {".png", ".svg"}
    assert all(file.stat().st_size > 5000 for file in files)


def test_the_embedded_model_is_called_what_it_is() -> None:
    """SmolLM2's file holds Q4_1 weights: a study of it measures quantising again, and says so."""
    source = Source("gguf", "smollm2-135m", embedded_gguf())
    assert source_format(source) == "Q4_1"
    assert reference_label("Q4_1") == "dequantised Q4_1"
    assert reference_label("bf16") == "bf16"
    assert reference_label("nf4") == "dequantised nf4"


def test_a_folder_is_what_most_of_its_weights_are(tmp_path: Path) -> None:
    save_file({"a": torch.ones(100, 10).bfloat16(), "b": torch.ones(100)}, tmp_path / "model.safetensors")
    assert source_format(Source("folder", "x", tmp_path)) == "bf16"


@pytest.mark.parametrize("name", FORMATS)
def test_a_control_has_the_size_of_the_formats_error_and_not_its_shape(name: str) -> None:
    weights = {"model.layers.0.mlp.up_proj.weight": torch.randn(128, 256), "model.norm.weight": torch.ones(256)}
    changed: list[dict[str, torch.Tensor]] = [{}, {}]
    made = make(weights.items(), Variant(name), 0, changed[0].__setitem__)
    control = make(weights.items(), Variant(name, noise=True), 0, changed[1].__setitem__)
    (key,) = changed[0]
    assert is_changed(key, 2)
    assert control.relative_rms == pytest.approx(made.relative_rms, rel=0.02)
    errors = [(one[key] - weights[key]).flatten() for one in changed]
    assert abs(float(torch.corrcoef(torch.stack(errors))[0, 1])) < 0.02
    assert control.inventory is None


def test_bytes_per_token_leave_out_what_a_token_does_not_read() -> None:
    weights = {
        "model.embed_tokens.weight": torch.randn(10, 64),
        "model.layers.0.mlp.experts.down_proj": torch.randn(8, 64, 64),
        "lm_head.weight": torch.randn(10, 64),
    }
    table = make(weights.items(), Variant("nf4"), 0, lambda name, value: None).inventory
    assert table is not None
    assert bytes_per_token(table, tied=False, expert_share=0.25) == 2 * 64 * 64 * 4.5 / 8 + 10 * 64 * 2
    assert bytes_per_token(table, tied=True, expert_share=1.0) == 8 * 64 * 64 * 4.5 / 8 + 2 * 10 * 64 * 2


def test_weight_files_are_named_by_their_hash(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()
    blob = tmp_path / "blobs" / ("ab" * 32)
    blob.parent.mkdir()
    blob.write_bytes(b"never read")
    (tmp_path / "model-2.safetensors").symlink_to(blob)
    hashes = weight_hashes(Source("folder", "x", tmp_path))
    assert hashes == {"model.safetensors": digest, "model-2.safetensors": "ab" * 32}
    assert weight_hashes(Source("gguf", "x", tmp_path / "model.safetensors")) == {"model.safetensors": digest}
    assert weight_hashes(Source("random", "x", tmp_path)) == {}
