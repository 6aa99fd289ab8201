"""Bytes and bits by kind and format; which names must be quantised."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from engine.errors import ModelError
from engine.model.hf.quantized_model import quantize_model
from engine.model.weights.inventory import check_quantized, inventory, kind_of, wanted_format
from engine.model.weights.rounding import quantize_tensor
from tests.model import tiny_moe


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("model.embed_tokens.weight", "embedding"),
        ("transformer.wte.weight", "embedding"),
        ("lm_head.weight", "head"),
        ("model.norm.weight", "norm"),
        ("model.layers.0.input_layernorm.weight", "norm"),
        ("model.layers.0.self_attn.q_norm.weight", "norm"),
        ("model.layers.0.self_attn.q_proj.weight", "attention"),
        ("model.layers.0.mlp.gate.weight", "router"),
        ("model.layers.0.mlp.shared_expert_gate.weight", "router"),
        ("model.layers.0.mlp.experts.gate_up_proj", "experts"),
        ("model.layers.0.mlp.gate_proj.weight", "mlp"),
        ("model.layers.0.mlp.shared_expert.up_proj.weight", "mlp"),
        ("model.layers.0.mixer.in_proj.weight", "other"),
    ],
)
def test_kinds_by_name(name: str, kind: str) -> None:
    assert kind_of(name) == kind


def test_what_nobody_knows_must_be_quantised() -> None:
    """An unknown matrix is refused rather than left in bf16 without a word."""
    assert wanted_format("model.layers.0.mixer.in_proj.weight", 2, "nf4") == "nf4"
    assert wanted_format("model.layers.0.mixer.in_proj.bias", 1, "nf4") == "bf16"
    with pytest.raises(ModelError, match=r"mixer\.in_proj"):
        check_quantized({"model.layers.0.mixer.in_proj.weight": torch.ones(4, 64)}, "nf4")


def test_rows_add_up_to_every_byte(moe_folder: Path) -> None:
    model = quantize_model(tiny_moe.load(moe_folder), "nf4")
    table = inventory(model)
    by_kind = {row.kind: row for row in table.rows}
    assert by_kind["experts"].weights == 4 * 8 * (2 * 96 * 64 + 64 * 96)
    assert by_kind["experts"].tensors == 8
    # down_proj has 96 columns, padded to 128; gate_up_proj's 64 need no padding
    assert by_kind["experts"].nbytes == 4 * 8 * (192 * 64 * 4.5 + 64 * 128 * 4.5) / 8
    assert by_kind["attention"].bits_per_weight == 4.5
    assert by_kind["router"].format == "fp32"
    assert table.weights == sum(p.numel() for p in tiny_moe.model().parameters())
    assert table.nbytes == sum(row.nbytes for row in table.rows)


def test_the_table_shows_every_row_and_the_total() -> None:
    table = inventory(
        {"lm_head.weight": torch.ones(2, 64).bfloat16(), "a.mlp.up.weight": quantize_tensor(torch.ones(2, 64), "nf4")}
    )
    lines = str(table).splitlines()
    assert lines[0].split() == ["kind", "format", "tensors", "weights", "bytes", "bits/weight", "scales"]
    assert lines[1].split() == ["head", "bf16", "1", "128", "256", "16.000"]
    assert lines[2].split() == ["mlp", "nf4", "1", "128", "72", "4.500", "fp32/64"]
    assert lines[3].split() == ["all", "2", "256", "328", "10.250"]
    assert table.to_dict()["bits_per_weight"] == 10.25
