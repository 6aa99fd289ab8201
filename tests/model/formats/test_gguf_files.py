"""GGUF files kept in their blocks: values, names, Llama's rows, split files, tokenizer and template, refusals."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, GgufConfig

from engine.config import EngineConfig
from engine.errors import ModelError
from engine.interfaces import RowInput
from engine.model.architecture.shape import Shape
from engine.model.cpu.cpu_cache import Span
from engine.model.cpu.cpu_loader import read_weights
from engine.model.cpu.decoder import Decoder
from engine.model.cpu.packed_weights import open_gguf
from engine.model.cpu.read_weights import ReadWeights
from engine.model.cuda import cuda_loader
from engine.model.files.source import resolve
from engine.model.formats.gguf_file import read_gguf
from engine.model.quantize import quantize
from engine.model.tokenizer import load_tokenizer
from engine.model.weights.quantized_tensor import QuantizedTensor
from engine.model.weights.stacked import StackedWeight
from tests.model import gguf_writer
from tests.model.formats.test_foreign_folders import greedy

ARCHITECTURES = ("qwen3moe", "qwen3", "qwen2", "llama")


def read(path: Path, cache: Path, quantization: str | None = None) -> ReadWeights:
    config = EngineConfig(model=str(path), cache_dir=cache, quantization=quantization)  # type: ignore[arg-type]
    return read_weights(config, resolve(str(path)))


def by_transformers(path: Path, architecture: str) -> torch.nn.Module:
    """The same file through transformers' reader: its names, its blocks, its rows put back. The config is spelled out:
    of a file's settings transformers leaves the experts' size and the heads' to its defaults."""
    config = AutoConfig.for_model(
        "qwen3_moe" if architecture == "qwen3moe" else architecture,
        hidden_size=gguf_writer.HIDDEN,
        intermediate_size=gguf_writer.INNER,
        moe_intermediate_size=gguf_writer.INNER,
        num_experts=gguf_writer.EXPERTS,
        num_experts_per_tok=2,
        norm_topk_prob=True,
        num_hidden_layers=gguf_writer.LAYERS,
        num_attention_heads=gguf_writer.HEADS,
        num_key_value_heads=gguf_writer.KV,
        head_dim=gguf_writer.HEAD_DIM,
        vocab_size=gguf_writer.VOCAB,
        rms_norm_eps=1e-6,
        tie_word_embeddings=False,
        eos_token_id=None,
    )
    dequantised = GgufConfig(dequantize=True)
    return AutoModelForCausalLM.from_pretrained(
        path.parent, config=config, gguf_file=path.name, quantization_config=dequantised, dtype=torch.float32
    ).eval()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_mixed_file_is_what_transformers_makes_of_it(architecture: str, tmp_path: Path) -> None:
    path = gguf_writer.write(tmp_path / "model.gguf", architecture, others=gguf_writer.Q4_K_M)
    found, reference = read(path, tmp_path / "cache"), by_transformers(path, architecture)
    assert found.quantization == "q4_k_m"
    assert found.tensors is not None
    expected = reference.state_dict()
    assert found.tensors.keys() == expected.keys()
    for name, weight in expected.items():
        assert torch.equal(found.tensors[name].float(), weight), name
    prompt = [5, 6, 7, 8]
    with torch.no_grad():
        wanted = reference.generate(torch.tensor([prompt]), max_new_tokens=200, min_new_tokens=200, do_sample=False)
    decoder = Decoder(Shape.from_config(found.settings), found.tensors, slots=1, positions=256, dtype=torch.float32)
    assert prompt + list(greedy(decoder, prompt, 200)) == wanted[0].tolist()


@pytest.mark.parametrize("kind", ["q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "q5_k", "q6_k"])
def test_every_type_stays_in_its_blocks(kind: str, tmp_path: Path) -> None:
    path = gguf_writer.write(tmp_path / "model.gguf", "llama", kind)
    opened = open_gguf(read_gguf(path))
    weights = {name: opened.checkpoint.read_weight(name) for name in opened.names}
    assert sum(weight.nbytes for weight in weights.values()) <= 1.05 * path.stat().st_size
    reference = by_transformers(path, "llama").state_dict()
    for name, weight in weights.items():
        if isinstance(weight, QuantizedTensor):
            assert weight.format == kind
            weight = weight.dequantize()
        assert isinstance(weight, torch.Tensor)
        assert torch.equal(weight, reference[name]), name


def test_experts_are_views_of_their_rows(tmp_path: Path) -> None:
    file = read_gguf(gguf_writer.write(tmp_path / "model.gguf", "qwen3moe", others={"ffn_up_exps": "q5_k"}))
    experts = open_gguf(file).checkpoint.read_weight("model.layers.1.mlp.experts.gate_up_proj")
    assert isinstance(experts, StackedWeight)
    assert [piece.format for piece in experts.pieces if isinstance(piece, QuantizedTensor)] == ["q4_k", "q5_k"] * 4


def test_a_split_file_is_one_model_whichever_part_is_named(tmp_path: Path) -> None:
    whole = read(gguf_writer.write(tmp_path / "model.gguf", "qwen3"), tmp_path / "cache").tensors
    first = gguf_writer.write(tmp_path / "parts.gguf", "qwen3", files=3)
    last = first.with_name("parts-00003-of-00003.gguf")
    assert whole is not None
    for named in (first, last):
        parts = open_gguf(read_gguf(named))
        for name in parts.names:
            weight = parts.checkpoint.read_weight(name)
            value = weight if isinstance(weight, torch.Tensor) else weight.dequantize()
            assert torch.equal(value, whole[name])
    last.unlink()
    with pytest.raises(ModelError, match=r"parts-00003-of-00003\.gguf is missing"):
        read_gguf(first)


def test_tokenizer_and_chat_template_are_the_files_own(tmp_path: Path) -> None:
    found = read(gguf_writer.write(tmp_path / "model.gguf", "qwen3"), tmp_path / "cache")
    assert found.folder is not None
    tokenizer = load_tokenizer(found.folder)
    assert tokenizer.vocab_size == gguf_writer.VOCAB
    assert 259 in tokenizer.stop_token_ids
    chat = tokenizer.chat([{"role": "user", "content": "ab"}])
    assert [tokenizer.special_tokens["<|im_start|>"], 256, 259] == chat
    assert not list(found.folder.glob("*.safetensors")), "a second copy of the weights was written"


@pytest.mark.parametrize(("kind", "number"), [("Q2_K", 10), ("Q3_K", 11), ("IQ4_XS", 23), ("IQ2_XXS", 16)])
def test_types_that_are_not_read_are_refused_by_name(kind: str, number: int, tmp_path: Path) -> None:
    path = gguf_writer.write(tmp_path / "model.gguf", "qwen3")
    raw = path.read_bytes()
    name = b"blk.1.ffn_up.weight"
    at = raw.index(name) + len(name) + 4 + 2 * 8
    path.write_bytes(raw[:at] + number.to_bytes(4, "little") + raw[at + 4 :])
    with pytest.raises(ModelError, match=rf"blk\.1\.ffn_up\.weight is {kind}, which is not read"):
        read(path, tmp_path / "cache")


@pytest.mark.parametrize(("keep", "told"), [
    (0, "does not begin as GGUF files do"), (3, "does not begin as GGUF"), (60, "header is damaged"),
    (3000, "header is damaged"), (-100, "lies behind its end; the file is cut short"),
])  # fmt: skip
def test_a_file_cut_short_is_one_line(keep: int, told: str, tmp_path: Path) -> None:
    path = gguf_writer.write(tmp_path / "model.gguf", "qwen3")
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ModelError, match=told) as refusal:
        read(path, tmp_path / "cache")
    assert str(path) in refusal.value.message
    assert "\n" not in refusal.value.message


@pytest.mark.parametrize("architecture", ["qwen3moe", "llama"])
def test_the_gpus_loader_keeps_a_mixed_file_packed_and_gives_the_cpus_logits(architecture: str, tmp_path: Path) -> None:
    """Q, K and V differ in type, so they are products beside each other; with the kernels' references on a CPU."""
    path = gguf_writer.write(tmp_path / "model.gguf", architecture, others=gguf_writer.Q4_K_M)
    config = EngineConfig(model=str(path), cache_dir=str(tmp_path / "cache"), max_batch=2, max_sequence=64)
    loaded = cuda_loader._read(config, resolve(str(path)), "cpu")
    assert loaded.quantization == "q4_k_m"
    runner = cuda_loader._runner(config, loaded, "cpu")
    tokens = [(7 * i + 3) % 250 for i in range(20)]
    runner.forward([RowInput(1, tokens, 0)])
    held = read(path, tmp_path / "cache")
    shape = Shape.from_config(held.settings)
    reference = Decoder(shape, held.tensors, slots=2, positions=64, dtype=torch.float32)
    logits = reference.forward(torch.tensor(tokens), [Span(0, 0, 20, 0)], torch.tensor([19]))
    assert float((runner._logits[:1] - logits).norm() / logits.norm()) < 1e-2


def test_quantize_does_not_round_what_is_rounded(tmp_path: Path) -> None:
    path = gguf_writer.write(tmp_path / "model.gguf", "qwen3")
    with pytest.raises(ModelError, match=r"is quantised already \(q4_k_m\); start from its bf16 form"):
        quantize(str(path), "nf4", tmp_path / "out")


def test_a_quantised_file_is_not_quantised_again_but_a_float_one_is(tmp_path: Path) -> None:
    path = gguf_writer.write(tmp_path / "model.gguf", "qwen3")
    with pytest.raises(ModelError, match=r"is in q4_k_m, not nf4: leave quantization out"):
        read(path, tmp_path / "cache", "nf4")
    plain = gguf_writer.write(tmp_path / "plain.gguf", "qwen3", "f16", file_type=1)
    assert read(plain, tmp_path / "cache").quantization is None
    assert read(plain, tmp_path / "cache", "nf4").quantization == "nf4"
