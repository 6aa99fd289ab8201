"""Damage is found without a source where it shows, with one everywhere, and sound weights stay silent."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from engine.cli import main
from engine.model.damage import FEWEST, Facts, Finding, against, alone, among_siblings, beyond, facts_of
from engine.model.inspection import inspect
from engine.model.weights.rounding import quantize_tensor
from tests.model import foreign, gguf_writer
from tests.model.formats.test_foreign_folders import CASES, gptq_config

EXPERTS, ROWS, COLUMNS = 8, 32, 256


def experts(seed: int, *, shared: float = 0.5, spread: float = 0.2, tails: bool = True) -> list[Tensor]:
    """Experts of one layer: heavy tails, sizes that differ, columns whose sizes have something in common."""
    random = torch.Generator().manual_seed(seed)
    profile = shared * torch.randn(COLUMNS, generator=random)
    made = []
    for _ in range(EXPERTS):
        own = 0.3 * torch.randn(COLUMNS, generator=random)
        size = 0.02 * float(torch.exp(spread * torch.randn((), generator=random)))
        base = torch.randn(ROWS, COLUMNS, generator=random)
        if tails:
            base = base / torch.rand(ROWS, COLUMNS, generator=random).clamp(min=0.05).sqrt()
        made.append(base * torch.exp(profile + own) * size)
    return made


def look(matrices: list[Tensor], quantization: str | None = "nf4") -> list[Finding]:
    values = [quantize_tensor(m, quantization).dequantize() if quantization else m for m in matrices]
    facts: dict[str, Facts] = {f"e{i}": facts_of(value, 1) for i, value in enumerate(values)}
    return [f for name, fact in facts.items() for f in alone(name, fact)] + among_siblings(facts)


def permuted(matrix: Tensor, seed: int) -> Tensor:
    return matrix[:, torch.randperm(COLUMNS, generator=torch.Generator().manual_seed(seed))]


DAMAGE: dict[str, Callable[[list[Tensor], int], Tensor]] = {
    "zero": lambda all_, seed: torch.zeros_like(all_[0]),
    "constant": lambda all_, seed: torch.full_like(all_[0], 0.01),
    "saturated": lambda all_, seed: all_[0].sign() * all_[0].abs().amax(),
    "not finite": lambda all_, seed: all_[0].index_fill(0, torch.tensor([seed % ROWS]), torch.nan),
    "scale": lambda all_, seed: all_[2] * (4.5 if seed % 2 else 1 / 4.5),
    "alike": lambda all_, seed: all_[5],
    "permuted": lambda all_, seed: permuted(all_[0], seed),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_20_of_20_are_found_without_a_source(kind: str) -> None:
    for seed in range(20):
        matrices = experts(seed, spread=0.1)
        matrices[2] = DAMAGE[kind](matrices, seed)
        found = look(matrices, None if kind == "not finite" else "nf4")
        assert [f.kind for f in found] == [kind], f"seed {seed}: {found}"
        assert found[0].name in ("e2", "e5")


@pytest.mark.slow
@pytest.mark.parametrize("tails", [True, False])
@pytest.mark.parametrize("shared", [0.0, 0.15, 1.0])
def test_sound_experts_raise_no_alarm(tails: bool, shared: float) -> None:
    """6 x 420 layers of 8 experts: 20,160 sound matrices, at most one alarm in all (none is what is found)."""
    found = []
    for seed in range(420):
        found += look(experts(seed, shared=shared, tails=tails), "nf4" if seed % 2 else None)
    assert found == []


@pytest.mark.parametrize("kind", DAMAGE)
def test_every_damage_is_found_with_a_source(kind: str) -> None:
    for seed in range(20):
        sources = experts(seed, shared=0.0)
        matrices = [quantize_tensor(m, "nf4").dequantize() for m in sources]
        damaged = DAMAGE[kind](matrices, seed)
        found = beyond({f"e{i}": against(damaged if i == 2 else m, sources[i]) for i, m in enumerate(matrices)})
        assert [f.name for f in found] == ["e2"], f"seed {seed}: {found}"


def test_with_a_source_one_row_is_enough() -> None:
    sources = experts(3)
    matrices = [quantize_tensor(m, "nf4").dequantize() for m in sources]
    matrices[6][17] = matrices[6][18]
    found = beyond({f"e{i}": against(m, sources[i]) for i, m in enumerate(matrices)})
    assert [(f.name, f.kind) for f in found] == [("e6", "differs")]


def related(seed: int) -> list[Tensor]:
    """Experts whose columns are alike in size, but go together in the same way."""
    random = torch.Generator().manual_seed(seed)
    common = torch.randn(16, COLUMNS, generator=random) / 8
    sizes = (EXPERTS, 256)
    own = torch.randn(*sizes, COLUMNS, generator=random)
    return list(own + torch.randn(*sizes, 16, generator=random) @ common)


@pytest.mark.parametrize("seed", range(5))
def test_what_goes_together_tells_a_permutation(seed: int) -> None:
    matrices = related(seed)
    assert look(matrices) == []
    matrices[2] = permuted(matrices[2], seed)
    found = look(matrices)
    assert {(f.name, f.kind) for f in found} == {("e2", "permuted")}
    assert any("goes together" in f.detail for f in found)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("part", ["scale", "packed"])
def test_codes_under_other_scales_are_seen(part: str, seed: int) -> None:
    held = [quantize_tensor(matrix, "nf4") for matrix in related(seed)]
    moved = getattr(held[2], part).roll(1, -1) if part == "scale" else held[2].packed.roll(96, -1)
    held[2] = replace(held[2], **{part: moved})
    found = look([one.dequantize() for one in held], None)
    assert {(f.name, f.kind) for f in found} == {("e2", "permuted")}


@pytest.mark.parametrize("seed", range(5))
def test_scales_among_themselves_over_minima_that_stay_are_seen(seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    matrices = [matrix.view(256, -1, 32) for matrix in torch.randn(EXPERTS, 256, COLUMNS, generator=random)]
    low = [part.amin(-1, keepdim=True) for part in matrices]
    scales = [(part.amax(-1, keepdim=True) - least) / 31 for part, least in zip(matrices, low, strict=True)]
    codes = [((m - least) / scale).round() for m, least, scale in zip(matrices, low, scales, strict=True)]
    scales[2] = scales[2].roll(1, 1)
    found = look([(s * c + m).flatten(1) for s, c, m in zip(scales, codes, low, strict=True)], None)
    assert {(f.name, f.kind) for f in found} == {("e2", "permuted")}
    assert any("off zero" in f.detail for f in found)


def test_few_siblings_are_not_compared() -> None:
    matrices = experts(1)[: FEWEST - 1]
    matrices[0] = matrices[0] * 100
    assert look(matrices, None) == []


def damaged_folder(tmp_path: Path) -> tuple[Path, Path]:
    packed, plain = foreign.write_folder(tmp_path, *CASES["gptq-4 v1"]())
    tensors = load_file(packed / "model.safetensors")
    tensors["model.layers.1.mlp.experts.3.up_proj.scales"] *= 5
    of = "model.layers.2.mlp.experts.{}.down_proj.{}"
    for part in ("qweight", "qzeros", "scales", "g_idx"):
        tensors[of.format(6, part)] = tensors[of.format(1, part)]
    save_file({name: t.clone() for name, t in tensors.items()}, packed / "model.safetensors")
    return packed, plain


def test_the_command_names_what_is_damaged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    packed, plain = damaged_folder(tmp_path)
    assert main(["models", "inspect", str(packed)]) == 1
    told = capsys.readouterr().out
    assert "gptq-4" in told
    assert "model.layers.1.mlp.experts.gate_up_proj[3].up: scale: 5" in told
    assert "model.layers.2.mlp.experts.down_proj[6]: alike: equal to model.layers.2.mlp.experts.down_proj[1]" in told
    assert "sha256" in told
    assert main(["models", "inspect", str(plain)]) == 0
    assert "none damaged" in capsys.readouterr().out


def test_the_command_compares_with_a_source(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    packed, plain = foreign.write_folder(tmp_path, gptq_config(4, 32), lambda _, w: foreign.gptq(w, 4, 32, v1=True))
    tensors = load_file(packed / "model.safetensors")
    words = tensors["model.layers.0.self_attn.v_proj.qweight"]
    words[:, 5] = words[:, 6].clone()
    save_file(tensors, packed / "model.safetensors")
    assert main(["models", "inspect", str(packed), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["damage"] == []
    assert main(["models", "inspect", str(packed), "--against", str(plain), "--json"]) == 1
    (found,) = json.loads(capsys.readouterr().out)["damage"]
    assert (found["weight"], found["kind"]) == ("model.layers.0.self_attn.v_proj.weight", "differs")


def test_gguf_files_are_inspected_expert_by_expert(tmp_path: Path) -> None:
    path = gguf_writer.write(tmp_path / "model.gguf", "qwen3moe", others=gguf_writer.Q4_K_M)
    found = inspect(str(path))
    assert found.findings == []
    assert found.matrices == 2 * (4 + 3 * gguf_writer.EXPERTS + 1) + 1
    assert found.label == "q4_k_m"
    assert {row.format for row in found.table.rows if row.kind == "experts"} == {"q4_k", "q6_k"}


def test_misuse_is_told_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "inspect"]) == 2
    assert "name a model" in capsys.readouterr().err
    assert main(["models", "--against", "x"]) == 2
