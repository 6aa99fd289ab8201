"""`quantize`: any source to a checkpoint, shard by shard, in bounded memory; bad sources are named."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, MistralConfig, MistralForCausalLM, PreTrainedTokenizerFast

from engine.config import EngineConfig
from engine.errors import ModelError, RequestError
from engine.model.checkpoint.checkpoint import load_checkpoint
from engine.model.cpu.cpu_loader import read_weights
from engine.model.cpu.engine_weights import load_engine_weights, read_engine_weights, requantized
from engine.model.files.source import resolve
from engine.model.hf.quantized_model import empty_model, quantize_model
from engine.model.quantize import quantize, quantize_checkpoint
from engine.model.weights.inventory import inventory
from engine.model.weights.quantized_tensor import QuantizedTensor
from engine.model.weights.rounding import quantize_tensor
from tests.model import tiny_moe


def copy_of(folder: Path, to: Path) -> Path:
    to.mkdir()
    for file in folder.iterdir():
        (to / file.name).write_bytes(file.read_bytes())
    return to


def test_a_folder_becomes_a_checkpoint_that_carries_its_config(moe_folder: Path, tmp_path: Path) -> None:
    (source := copy_of(moe_folder, tmp_path / "source")).joinpath("chat_template.jinja").write_text("{{ x }}")
    seen: list[tuple[int, int, str]] = []
    manifest = quantize(str(source), "nf4", tmp_path / "out", progress=lambda *step: seen.append(step))
    assert manifest.model == str(source)
    assert (tmp_path / "out" / "chat_template.jinja").read_text() == "{{ x }}"
    assert json.loads((tmp_path / "out" / "config.json").read_text())["model_type"] == "qwen3_moe"
    total = sum(parameter.numel() for parameter in tiny_moe.model().parameters())
    assert seen[-1][:2] == (total, total)
    assert [done for done, _, _ in seen] == sorted(done for done, _, _ in seen)
    assert load_checkpoint(tmp_path / "out", "cpu").manifest == manifest


def test_random_weights_become_a_checkpoint(moe_folder: Path, tmp_path: Path) -> None:
    config = tmp_path / "shape.json"
    config.write_text((moe_folder / "config.json").read_text())
    quantize(f"random:{config}", "fp4", tmp_path / "out")
    loaded = load_checkpoint(tmp_path / "out", "cpu")
    assert loaded.manifest.seed == 0
    assert inventory(loaded.tensors).weights == inventory(tiny_moe.model()).weights
    assert (tmp_path / "out" / "config.json").exists()


def test_an_interrupted_run_goes_on_and_gives_the_same_bytes(moe_folder: Path, tmp_path: Path) -> None:
    def stop(done: int, total: int, name: str) -> None:
        if done > total / 2:
            raise KeyboardInterrupt

    settings = {"file_bytes": 1 << 16, "model": "m"}
    source = copy_of(moe_folder, tmp_path / "source")
    with pytest.raises(KeyboardInterrupt):
        quantize_checkpoint(source, tmp_path / "out", "nf4", progress=stop, **settings)
    assert not (tmp_path / "out").exists()
    kept = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out.partial").glob("*.safetensors")}
    assert kept
    for file in source.iterdir():
        os.utime(file, (1, 1))  # a remount may do that
    resumed = quantize_checkpoint(source, tmp_path / "out", "nf4", **settings)
    straight = quantize_checkpoint(moe_folder, tmp_path / "straight", "nf4", **settings)
    assert all((tmp_path / "out" / name).stat().st_mtime_ns == when for name, when in kept.items())
    assert resumed == straight
    assert not (tmp_path / "out.partial").exists()


def test_an_interrupted_run_does_not_go_on_with_other_weights_of_the_same_size(
    moe_folder: Path, tmp_path: Path
) -> None:
    def stop(done: int, total: int, name: str) -> None:
        raise KeyboardInterrupt

    settings = {"file_bytes": 1, "model": "m"}
    source = copy_of(moe_folder, tmp_path / "source")
    with pytest.raises(KeyboardInterrupt):
        quantize_checkpoint(source, tmp_path / "out", "bf16", progress=stop, **settings)
    for file in source.glob("*.safetensors"):
        whole, times = bytearray(file.read_bytes()), (file.stat().st_atime_ns, file.stat().st_mtime_ns)
        whole[-1] ^= 1
        file.write_bytes(whole)
        os.utime(file, ns=times)
    resumed = quantize_checkpoint(source, tmp_path / "out", "bf16", **settings)
    straight = quantize_checkpoint(source, tmp_path / "straight", "bf16", **settings)
    assert {file.sha256 for file in resumed.files} == {file.sha256 for file in straight.files}


@pytest.mark.slow
def test_peak_memory_is_bounded_by_a_weight_and_a_file(tmp_path: Path) -> None:
    """100 MB of source with 4 MB waiting to be written: memory grows by far less than source or result.

    The control lets everything wait, and shows that the measure would see it.
    """
    save_llama(tmp_path / "small", hidden=64, layers=1)
    source_mb = save_llama(tmp_path / "source", hidden=512, layers=12)
    result_mb = source_mb * 4.5 / 16
    assert source_mb > 100
    growth = peak_growth_mb(tmp_path)
    assert growth["bounded"] < 0.5 * source_mb
    assert growth["control"] > growth["bounded"] + 0.8 * result_mb


def peak_growth_mb(folder: Path) -> dict[str, float]:
    script = Path(__file__).with_name("measure_quantize_memory.py")
    command = [sys.executable, str(script), *(str(folder / name) for name in ("small", "source", "out"))]
    root = Path(__file__).parents[2]
    run = subprocess.run(
        command, check=True, capture_output=True, text=True, timeout=240, cwd=root, env=with_root(root)
    )
    figures: dict[str, float] = json.loads(run.stdout.splitlines()[-1])
    return figures


def with_root(root: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(root)}


def save_llama(folder: Path, *, hidden: int, layers: int) -> float:
    """A Llama checkpoint of one random matrix over and over, one file a layer; returns its size in MB."""
    config = LlamaConfig(
        hidden_size=hidden,
        intermediate_size=4 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=4,
        vocab_size=1024,
    )
    config.save_pretrained(folder)
    files: dict[str, dict[str, torch.Tensor]] = {}
    pattern = torch.randn(max(1024, 4 * hidden) * hidden).bfloat16()
    for name, parameter in empty_model(config).named_parameters():
        group = name.split(".")[2] if ".layers." in name else "rest"
        files.setdefault(group, {})[name] = pattern[: parameter.numel()].view(parameter.shape).clone()
    for group, tensors in files.items():
        save_file(tensors, folder / f"model-{group}.safetensors")
    return sum(tensor.nbytes for tensors in files.values() for tensor in tensors.values()) / 1e6


PROMPTS = ["a colour", "the name of a function", "what a list holds"]


def with_tokenizer(folder: Path, to: Path) -> Path:
    """The folder and a tokenizer of words."""
    copy_of(folder, to)
    words = {word: at for at, word in enumerate(["</s>", *sorted({word for text in PROMPTS for word in text.split()})])}
    rust = Tokenizer(models.WordLevel(words, unk_token="</s>"))
    rust.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=rust, eos_token="</s>").save_pretrained(to)
    return to


def test_prompts_change_what_is_rounded_to_and_are_told(moe_folder: Path, tmp_path: Path) -> None:
    source = with_tokenizer(moe_folder, tmp_path / "source")
    manifests = [
        quantize(str(source), "nl4", tmp_path / name, calibrate=prompts)
        for name, prompts in (("none", []), ("some", PROMPTS), ("others", PROMPTS[:1]))
    ]
    assert [manifest.calibration is None for manifest in manifests] == [True, False, False]
    assert manifests[1].calibration != manifests[2].calibration
    none, some = (load_checkpoint(tmp_path / name, "cpu").tensors for name in ("none", "some"))
    quantised = [name for name, weight in none.items() if isinstance(weight, QuantizedTensor)]
    assert len(quantised) == 6 * 4
    for name in quantised:
        assert some[name].format == "nl4"
        assert not torch.equal(some[name].packed, none[name].packed)


def test_an_interrupted_calibrated_run_goes_on_and_gives_the_same_bytes(moe_folder: Path, tmp_path: Path) -> None:
    def stop(done: int, total: int, name: str) -> None:
        if done > total / 2:
            raise KeyboardInterrupt

    settings = {"file_bytes": 1 << 14, "model": "m", "calibrate": PROMPTS}
    source = with_tokenizer(moe_folder, tmp_path / "source")
    with pytest.raises(KeyboardInterrupt):
        quantize_checkpoint(source, tmp_path / "out", "nl4", progress=stop, **settings)
    kept = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out.partial").glob("*.safetensors")}
    assert kept
    resumed = quantize_checkpoint(source, tmp_path / "out", "nl4", **settings)
    straight = quantize_checkpoint(source, tmp_path / "straight", "nl4", **settings)
    assert all((tmp_path / "out" / name).stat().st_mtime_ns == when for name, when in kept.items())
    assert resumed == straight


def test_only_nl4_of_real_weights_is_calibrated(moe_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="nf4 rounds each weight by itself; only nl4 is calibrated"):
        quantize(str(moe_folder), "nf4", tmp_path / "out", calibrate=PROMPTS)
    with pytest.raises(RequestError, match="random weights have nothing to calibrate"):
        quantize(f"random:{moe_folder / 'config.json'}", "nl4", tmp_path / "out", calibrate=PROMPTS)
    assert not (tmp_path / "out").exists()


BAD_SOURCES = {
    "a missing shard": (
        lambda folder: next(folder.glob("model-00002*")).unlink(),
        r"model-00002-of-\d+\.safetensors is missing",
    ),
    "a truncated shard": (
        lambda folder: truncate(next(folder.glob("model-00003*"))),
        r"model-00003-of-\d+\.safetensors cannot be read",
    ),
    "an index that is no JSON": (
        lambda folder: (folder / "model.safetensors.index.json").write_text("{"),
        r"index\.json is damaged",
    ),
    "no config": (lambda folder: (folder / "config.json").unlink(), "no config that transformers can read"),
    "an unknown architecture": (
        lambda folder: (folder / "config.json").write_text('{"model_type": "no_such_model"}'),
        "no config that transformers can read",
    ),
    "quantised already": (
        lambda folder: edit_config(folder, quantization_config={"quant_method": "fp8"}),
        r"quantised already \(fp8\)",
    ),
    "another shape than the config's": (lambda folder: edit_config(folder, moe_intermediate_size=32), "has shape"),
    "a layer too few": (lambda folder: edit_config(folder, num_hidden_layers=5), r"lacks 'model\.layers\.4\."),
    "an expert too few": (lambda folder: drop_expert(folder), "down_proj has shape"),
    "pickled weights": (lambda folder: pickle_only(folder), "can run code"),
    "no weights": (lambda folder: remove(folder, "*.safetensors*"), "holds no safetensors"),
}


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def edit_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def drop_expert(folder: Path) -> None:
    index = folder / "model.safetensors.index.json"
    plain = json.loads(index.read_text())
    del plain["weight_map"]["model.layers.1.mlp.experts.7.down_proj.weight"]
    index.write_text(json.dumps(plain))


def remove(folder: Path, pattern: str) -> None:
    for file in folder.glob(pattern):
        file.unlink()


def pickle_only(folder: Path) -> None:
    remove(folder, "*.safetensors*")
    (folder / "pytorch_model.bin").write_bytes(b"x")


@pytest.mark.parametrize("name", list(BAD_SOURCES))
def test_a_bad_source_is_named_and_leaves_no_checkpoint(name: str, moe_folder: Path, tmp_path: Path) -> None:
    damage, message = BAD_SOURCES[name]
    source = copy_of(moe_folder, tmp_path / "source")
    damage(source)
    with pytest.raises(ModelError, match=message) as caught:
        quantize_checkpoint(source, tmp_path / "out", "nf4")
    assert str(source) in caught.value.message
    assert not (tmp_path / "out").exists()


def test_a_weight_that_is_not_finite_is_refused(moe_folder: Path, tmp_path: Path) -> None:
    source = copy_of(moe_folder, tmp_path / "source")
    path = next(source.glob("model-00002*"))
    tensors = load_file(path)
    name = next(key for key in tensors if "experts" in key)
    tensors[name][0, 0] = float("nan")
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"experts\.\w+: .*infinity or NaN"):
        quantize_checkpoint(source, tmp_path / "out", "nf4")


def test_bad_settings_are_refused_by_name(moe_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="lm_head 'int3'"):
        quantize(str(moe_folder), "nf4", tmp_path / "out", lm_head="int3")
    with pytest.raises(RequestError, match="quantization 'int3'"):
        quantize(str(moe_folder), "int3", tmp_path / "out")
    quantize(str(moe_folder), "nf4", tmp_path / "out")
    with pytest.raises(ModelError, match="is an engine checkpoint already"):
        quantize(str(tmp_path / "out"), "int8", tmp_path / "again")


def test_the_cpu_runner_gets_the_checkpoints_values(moe_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    quantize(str(moe_folder), "int4", out)
    read = read_engine_weights(EngineConfig(model=str(out)), resolve(str(out)))
    assert (read.model, read.folder, read.quantization) == (None, out, "int4")
    assert "experts    int4" in read.inventory
    assert read.tensors is not None
    for name, weight in load_checkpoint(out, "cpu").tensors.items():
        expected = weight.dequantize() if isinstance(weight, QuantizedTensor) else weight
        assert torch.equal(read.tensors[name], expected)


def test_a_checkpoint_in_another_format_than_asked_is_refused(moe_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    quantize(str(moe_folder), "int4", out)
    with pytest.raises(ModelError, match="is in int4, not nf4"):
        load_engine_weights(EngineConfig(model=str(out), quantization="nf4"), resolve(str(out)), "cpu")


def test_float_weights_are_rounded_to_the_format() -> None:
    state = dict(tiny_moe.model().state_dict())
    rounded, table = requantized(state, "nf4")
    assert {row.kind: row.format for row in table.rows}["attention"] == "nf4"
    name = "model.layers.0.self_attn.q_proj.weight"
    assert torch.equal(rounded[name], quantize_tensor(state[name], "nf4").dequantize())
    assert torch.equal(rounded["lm_head.weight"], state["lm_head.weight"])


def test_an_architecture_that_only_transformers_computes_is_quantised_too(tmp_path: Path) -> None:
    config = MistralConfig(
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        vocab_size=100,
    )
    model = MistralForCausalLM(config).eval().requires_grad_(False)
    model.save_pretrained(tmp_path / "source")
    quantize(str(tmp_path / "source"), "nf4", tmp_path / "out")
    with pytest.raises(ModelError, match=r"calibration goes through .*, not 'mistral'; quantise without it"):
        quantize(str(tmp_path / "source"), "nl4", tmp_path / "calibrated", calibrate=PROMPTS)
    name = str(tmp_path / "source")
    loaded = [
        read_weights(EngineConfig(model=name, quantization="nf4"), resolve(name)),
        read_weights(EngineConfig(model=str(tmp_path / "out")), resolve(str(tmp_path / "out"))),
    ]
    ids = torch.arange(7)[None]
    quantize_model(model, "nf4")
    for read in loaded:
        assert read.model is not None
        assert read.quantization == "nf4"
        assert "attention  nf4" in read.inventory
        with torch.no_grad():
            assert torch.equal(read.model(ids).logits, model(ids).logits)
