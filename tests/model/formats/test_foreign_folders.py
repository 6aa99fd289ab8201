"""Folders that other tools quantised: read packed, worth what the format's own code says, token by token."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import Qwen3MoeForCausalLM

from engine.config import EngineConfig
from engine.errors import ModelError
from engine.interfaces import RowInput
from engine.model.architecture.shape import Shape
from engine.model.cpu.cpu_cache import Span
from engine.model.cpu.cpu_loader import read_weights
from engine.model.cpu.decoder import Decoder
from engine.model.cpu.read_weights import ReadWeights
from engine.model.cuda import cuda_loader
from engine.model.files.source import resolve
from engine.model.formats.packed_checkpoint import PackedCheckpoint
from engine.model.formats.packed_source import packed_source
from engine.model.formats.schemes import scheme_of
from engine.model.hf.quantized_model import empty_model
from engine.model.weights.inventory import HEAD
from engine.model.weights.quantized_tensor import QuantizedTensor
from engine.model.weights.stacked import StackedWeight
from tests.model import foreign, tiny_moe

Written = Callable[[str], tuple[Path, Path]]
BITS = {"num_bits": 4, "type": "int", "symmetric": True, "strategy": "group", "group_size": 32}


def ct(format_name: str, weights: dict[str, Any], scale_dtype: torch.dtype = torch.bfloat16) -> Any:
    """A compressed-tensors folder's config and encoder."""
    pytest.importorskip("compressed_tensors", reason="writes and reads the reference; pip install compressed-tensors")
    groups = {"group_0": {"targets": ["Linear"], "weights": weights}}
    config = {"quant_method": "compressed-tensors", "format": format_name, "config_groups": groups}
    ignore = ["lm_head", "re:.*mlp.gate$"]
    return {**config, "ignore": ignore}, lambda _, w: foreign.compressed(w, weights, format_name, scale_dtype)


def order_of(module: str) -> int:
    """The seed of the order that the tools would find for what the module reads: one for q, k and v, one for gate and
    up of an expert, and for each expert another."""
    return own_order(re.sub(r"([qkv]|gate|up)_proj$", "", module))


def own_order(module: str) -> int:
    return zlib.crc32(module.encode())


def ct_in_order() -> Any:
    config, _ = ct("pack-quantized", {**BITS, "actorder": "group"})
    return config, lambda module, w: foreign.compressed_in_order(w, BITS, order_of(module))


def fp8_blocks(_: str, weight: Tensor) -> foreign.Encoded:
    codes, scales, value = foreign.fp8(weight, (32, 32))
    return {"weight": codes, "weight_scale_inv": scales}, value


def fp8_rows(_: str, weight: Tensor) -> foreign.Encoded:
    codes, scales, value = foreign.fp8(weight, None)
    return {"weight": codes, "weight_scale": scales}, value


def fp8_tensor(_: str, weight: Tensor) -> foreign.Encoded:
    codes, scales, value = foreign.fp8(weight, tuple(weight.shape))
    return {"weight": codes, "weight_scale": scales.view(()), "input_scale": torch.tensor(0.5)}, value


def gptq_config(bits: int, group: int, **others: Any) -> dict[str, Any]:
    return {"quant_method": "gptq", "bits": bits, "group_size": group, **others}


V2 = {"checkpoint_format": "gptq_v2"}
FP8 = {"quant_method": "fp8", "activation_scheme": "dynamic"}
FLOAT = {"num_bits": 8, "type": "float", "symmetric": True}
CASES: dict[str, Any] = {
    "fp8 blocks": lambda: ({**FP8, "weight_block_size": [32, 32]}, fp8_blocks),
    "fp8 rows": lambda: ({**FP8, "weight_block_size": None}, fp8_rows),
    "fp8 tensor": lambda: ({**FP8, "weight_block_size": None}, fp8_tensor),
    "fp8 modelopt": lambda: ({"quant_method": "modelopt", "quant_algo": "FP8"}, fp8_tensor),
    "gptq-4 v1": lambda: (gptq_config(4, 32), lambda _, w: foreign.gptq(w, 4, 32, v1=True)),
    "gptq-4 v1 symmetric": lambda: (gptq_config(4, 32), lambda _, w: foreign.gptq(w, 4, 32, v1=True, symmetric=True)),
    "gptq-4 v2 act-order": lambda: (
        gptq_config(4, 32, desc_act=True, **V2),
        lambda module, w: foreign.gptq(w, 4, 32, v1=False, act_order=order_of(module)),
    ),
    "gptq-4 v1 one group": lambda: (gptq_config(4, -1), lambda _, w: foreign.gptq(w, 4, -1, v1=True)),
    "gptq-8 v1": lambda: (gptq_config(8, 32), lambda _, w: foreign.gptq(w, 8, 32, v1=True)),
    "gptq-8 v2 act-order": lambda: (
        gptq_config(8, 32, desc_act=True, **V2),
        lambda module, w: foreign.gptq(w, 8, 32, v1=False, act_order=order_of(module)),
    ),
    "gptq-4 v1 q, k and v in three orders": lambda: (
        gptq_config(4, 32, desc_act=True),
        lambda module, w: foreign.gptq(w, 4, 32, v1=True, act_order=own_order(module) if "attn" in module else None),
    ),
    "awq-4": lambda: (
        {"quant_method": "awq", "bits": 4, "group_size": 32, "version": "gemm", "zero_point": True},
        lambda _, w: foreign.awq(w, 32),
    ),
    "ct-4": lambda: ct("pack-quantized", BITS),
    "ct-4 act-order": ct_in_order,
    "ct-4 zero points": lambda: ct("pack-quantized", {**BITS, "symmetric": False}, torch.float16),
    "ct-4 channel": lambda: ct("pack-quantized", {**BITS, "strategy": "channel", "group_size": None}),
    "ct-8": lambda: ct("pack-quantized", {**BITS, "num_bits": 8}),
    "ct-8 naive": lambda: ct("int-quantized", {**BITS, "num_bits": 8, "strategy": "channel", "group_size": None}),
    "fp8 ct rows": lambda: ct("float-quantized", {**FLOAT, "strategy": "channel"}),
    "fp8 ct tensor": lambda: ct("float-quantized", {**FLOAT, "strategy": "tensor"}, torch.float32),
    "fp8 ct blocks": lambda: ct("float-quantized", {**FLOAT, "strategy": "block", "block_structure": [32, 32]}),
    "nvfp4": lambda: ct(
        "nvfp4-pack-quantized",
        {"num_bits": 4, "type": "float", "symmetric": True, "strategy": "tensor_group", "group_size": 16},
        torch.float32,
    ),
    "nvfp4 modelopt": lambda: (
        {"quant_method": "modelopt", "quant_algo": "NVFP4"},
        lambda _, w: foreign.modelopt_nvfp4(w),
    ),
    "mxfp4": lambda: ct(
        "mxfp4-pack-quantized",
        {"num_bits": 4, "type": "float", "symmetric": True, "group_size": 32, "scale_dtype": "torch.uint8"},
        torch.float32,
    ),
}


def read(folder: Path) -> ReadWeights:
    return read_weights(EngineConfig(model=str(folder)), resolve(str(folder)))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """The two folders of a case, read-only: encoding takes longer than most tests."""
    return cache(lambda case: foreign.write_folder(tmp_path_factory.mktemp("case"), *CASES[case]()))


@cache
def twin(plain: Path) -> Qwen3MoeForCausalLM:
    return tiny_moe.load(plain)


def ulps(ours: Tensor, reference: Tensor) -> int:
    """The largest distance in fp32 steps; both finite."""
    a, b = (x.float().contiguous().view(torch.int32).long() for x in (ours, reference))
    a, b = (torch.where(x < 0, -(x & 0x7FFFFFFF), x) for x in (a, b))
    return int((a - b).abs().max())


@pytest.mark.parametrize("case", CASES)
def test_every_weight_is_what_the_formats_own_code_makes_of_it(case: str, written: Written) -> None:
    packed, plain = written(case)
    found = read(packed)
    assert found.tensors is not None
    assert found.quantization == case.split()[0]
    reference = twin(plain).state_dict()
    assert found.tensors.keys() == reference.keys()
    for name, weight in reference.items():
        assert ulps(found.tensors[name], weight) <= 1, name
    changed = (
        reference["model.layers.0.mlp.experts.down_proj"]
        - tiny_moe.model().state_dict()["model.layers.0.mlp.experts.down_proj"]
    )
    assert changed.abs().max() > 1e-5, "the reference is the unquantised model: nothing was tested"


@pytest.mark.parametrize("case", CASES)
def test_bytes_in_memory_are_those_of_the_file(case: str, written: Written) -> None:
    packed, _ = written(case)
    on_disk = sum(t.nbytes for t in load_file(packed / "model.safetensors").values())
    held = sum(weight.nbytes for weight in weights_of(packed).values())
    assert held <= 1.05 * on_disk


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_200_greedy_tokens_are_transformers_on_the_dequantised_weights(case: str, written: Written) -> None:
    """One call of transformers tells what it would have chosen behind each of our tokens."""
    packed, plain = written(case)
    found, prompt = read(packed), [3, 141, 59, 26, 5]
    assert found.tensors is not None
    decoder = Decoder(Shape.from_config(found.settings), found.tensors, slots=1, positions=256, dtype=torch.float32)
    tokens = [*greedy(decoder, prompt, 200)]
    with torch.no_grad():
        logits = twin(plain)(torch.tensor([prompt + tokens[:-1]])).logits[0, len(prompt) - 1 :]
    assert logits.argmax(-1).tolist() == tokens


def greedy(decoder: Decoder, prompt: list[int], count: int) -> Iterator[int]:
    fed, position = prompt, 0
    with torch.inference_mode():
        for _ in range(count):
            span = Span(0, 0, len(fed), position)
            logits = decoder.forward(torch.tensor(fed), [span], torch.tensor([len(fed) - 1]))
            position, fed = position + len(fed), [int(logits[0].argmax())]
            yield fed[0]


def test_fp8_is_what_transformers_dequantises(tmp_path: Path) -> None:
    from transformers import FineGrainedFP8Config, Qwen3MoeForCausalLM

    packed, _ = foreign.write_folder(tmp_path, {**FP8, "weight_block_size": [32, 32]}, fp8_blocks)
    theirs = Qwen3MoeForCausalLM.from_pretrained(
        packed,
        quantization_config=FineGrainedFP8Config(dequantize=True, weight_block_size=(32, 32)),
        dtype=torch.float32,
    )
    found = read(packed)
    assert found.tensors is not None
    for name, weight in theirs.state_dict().items():
        assert ulps(found.tensors[name], weight) <= 1, name


def test_act_order_may_differ_between_experts_and_projections(tmp_path: Path) -> None:
    def encode(module: str, weight: Tensor) -> foreign.Encoded:
        shuffled = re.search(r"experts\.[0-3]\.(gate|down)", module) is not None
        return foreign.gptq(weight, 4, 32, v1=True, act_order=1 if shuffled else None)

    packed, plain = foreign.write_folder(tmp_path, gptq_config(4, 32, desc_act=True), encode)
    found, reference = read(packed).tensors, tiny_moe.load(plain).state_dict()
    assert found is not None
    assert all(ulps(found[name], weight) <= 1 for name, weight in reference.items())


def test_gptqs_dynamic_rules_change_and_leave_out_modules(tmp_path: Path) -> None:
    rules = {r"-:.*self_attn\.k_proj": {}, r"+:.*experts\.2\.": {"bits": 8, "group_size": 16}, r".*o_proj": {"bits": 8}}

    def encode(module: str, weight: Tensor) -> foreign.Encoded | None:
        if module.endswith("k_proj"):
            return None
        wide = ".experts.2." in module
        bits = 8 if wide or module.endswith("o_proj") else 4
        return foreign.gptq(weight, bits, 16 if wide else 32, v1=True)

    packed, plain = foreign.write_folder(tmp_path, gptq_config(4, 32, dynamic=rules), encode)
    found, reference = read(packed), tiny_moe.load(plain).state_dict()
    assert found.tensors is not None
    assert all(ulps(found.tensors[name], weight) <= 1 for name, weight in reference.items())
    assert re.search(r"experts +gptq-4 +\d+.*fp16/32", found.inventory)
    assert re.search(r"experts +gptq-8 +\d+.*fp16/16", found.inventory)
    assert "in floats, the folder's config leaves it out: model.layers.0.self_attn.k_proj.weight" in found.inventory


def test_experts_that_were_let_through_are_named(tmp_path: Path) -> None:
    def encode(module: str, weight: Tensor) -> foreign.Encoded | None:
        return None if "layers.1.mlp.experts.5." in module else foreign.gptq(weight, 4, 32, v1=True)

    packed, _ = foreign.write_folder(tmp_path, gptq_config(4, 32), encode)
    told = read(packed).inventory
    assert "does not say why: model.layers.1.mlp.experts.gate_up_proj (2 of its 16 pieces) and 1 more" in told


def test_activation_schemes_are_told_and_not_applied(tmp_path: Path) -> None:
    packed, _ = foreign.write_folder(tmp_path, *CASES["fp8 tensor"]())
    told = read(packed).inventory
    assert "activations (e4m3, dynamic in its config) stay in floats: weights only" in told
    assert "not applied: 112 scales of activations and caches" in told


def test_experts_in_one_tensor_are_read_too(tmp_path: Path) -> None:
    """As transformers 5 has them in memory: codes [E, N, K], scales of blocks [E, N/32, K/32]."""
    packed, _ = foreign.write_folder(tmp_path, *CASES["fp8 blocks"]())
    before = read(packed).tensors
    tensors, model = load_file(packed / "model.safetensors"), tiny_moe.config()
    for layer in range(model.num_hidden_layers):
        prefix = f"model.layers.{layer}.mlp.experts."
        for target, names in (("gate_up_proj", ("gate_proj", "up_proj")), ("down_proj", ("down_proj",))):
            for part, suffix in (("weight", ""), ("weight_scale_inv", "_scale_inv")):
                experts = [
                    torch.cat([tensors.pop(f"{prefix}{e}.{name}.{part}").view(torch.uint8) for name in names])
                    for e in range(model.num_experts)
                ]
                dtype = torch.float8_e4m3fn if part == "weight" else torch.float32
                tensors[f"{prefix}{target}{suffix}"] = torch.stack(experts).view(dtype)
    save_file(tensors, packed / "model.safetensors")
    after = read(packed).tensors
    assert before is not None
    assert after is not None
    assert all(torch.equal(after[name], weight) for name, weight in before.items())


def test_a_quantised_head_is_read(tmp_path: Path) -> None:
    packed, _ = foreign.write_folder(tmp_path, *CASES["gptq-4 v1"]())
    tensors = load_file(packed / "model.safetensors")
    parts, value = foreign.gptq(tensors.pop(HEAD), 4, 32, v1=True)
    save_file({**tensors, **{f"lm_head.{part}": t for part, t in parts.items()}}, packed / "model.safetensors")
    found = read(packed).tensors
    assert found is not None
    assert torch.equal(found[HEAD], value)


def test_packed_weights_stay_packed(tmp_path: Path) -> None:
    packed, _ = foreign.write_folder(tmp_path, *CASES["gptq-4 v2 act-order"]())
    weights = weights_of(packed)
    experts = weights["model.layers.0.mlp.experts.gate_up_proj"]
    assert isinstance(experts, StackedWeight)
    assert experts.shape == (8, 192, 64)
    assert len(experts.pieces) == 16
    assert all(isinstance(piece, QuantizedTensor) and piece.order is not None for piece in experts.pieces)
    single = weights["model.layers.0.self_attn.q_proj.weight"]
    assert isinstance(single, QuantizedTensor)
    assert single.packed.dtype == torch.uint8
    assert single.scale.dtype == torch.float16


def weights_of(folder: Path) -> dict[str, Any]:
    scheme = scheme_of(folder)
    assert scheme is not None
    checkpoint = PackedCheckpoint(folder, empty_model(tiny_moe.config()), scheme)
    return {name: checkpoint.read_weight(name) for name in checkpoint.names}


@pytest.mark.parametrize(("config", "named"), [
    (gptq_config(3, 128), "GPTQ of 3 bits"),
    (gptq_config(2, 128), "GPTQ of 2 bits"),
    (gptq_config(4, 128, checkpoint_format="marlin"), "GPTQ in the layout 'marlin'"),
    ({"quant_method": "awq", "bits": 4, "group_size": 128, "version": "gemv"}, "AWQ in the layout 'gemv'"),
    ({"quant_method": "awq", "bits": 3, "group_size": 128}, "AWQ of 3 bits"),
    ({"quant_method": "bitsandbytes"}, "quantised by 'bitsandbytes'"),
    ({"quant_method": "compressed-tensors", "format": "marlin-24"}, "compressed-tensors 'marlin-24'"),
    ({"quant_method": "modelopt", "quant_algo": "W4A8_AWQ"}, "ModelOpt 'W4A8_AWQ'"),
    ({"quant_method": "fp8", "fmt": "e5m2"}, "FP8 in 'e5m2'"),
])  # fmt: skip
def test_formats_that_are_not_read_are_refused_by_name(
    config: dict[str, Any], named: str, moe_folder: Path, tmp_path: Path
) -> None:
    plain = json.loads((moe_folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**plain, "quantization_config": config}))
    with pytest.raises(ModelError, match=re.escape(named)) as refusal:
        packed_source(resolve(str(tmp_path)))
    assert "start from the model's 16-bit form" in refusal.value.message


def test_a_rule_that_gives_three_bits_is_refused_by_the_weights_name(tmp_path: Path) -> None:
    packed, _ = foreign.write_folder(tmp_path, *CASES["gptq-4 v1"]())
    config = json.loads((packed / "config.json").read_text())
    config["quantization_config"]["dynamic"] = {r".*layers\.1\..*v_proj": {"bits": 3}}
    (packed / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"layers\.1\.self_attn\.v_proj\.weight: its rule in 'dynamic' gives it 3"):
        read(packed)


def damage(parts: dict[str, Tensor], kind: str) -> None:
    name = "model.layers.2.mlp.experts.3.up_proj."
    if kind == "missing":
        del parts[name + "scales"]
    elif kind == "shape":
        parts[name + "scales"] = parts[name + "scales"][:-1].clone()
    elif kind == "type":
        parts[name + "qweight"] = parts[name + "qweight"].float()
    elif kind == "infinite":
        parts[name + "scales"][0, 0] = torch.inf
    elif kind == "groups":
        parts[name + "g_idx"][:] = 0
    elif kind == "expert":
        for part in ("qweight", "qzeros", "scales", "g_idx"):
            del parts[name + part]


@pytest.mark.parametrize(("kind", "told"), [
    ("missing", r"experts\.3\.up_proj\.weight: its 'scales' is not in the file"),
    ("shape", r"experts\.3\.up_proj\.weight: scales has shape \(1, 96\), not \(2, 96\)"),
    ("type", r"experts\.3\.up_proj\.weight: qweight is float32, not int32"),
    ("infinite", r"experts\.3\.up_proj\.weight: scales holds an infinity or NaN"),
    ("groups", r"experts\.3\.up_proj\.weight: g_idx does not give every group its 32 columns"),
    ("expert", r"layers\.2\.mlp\.experts\.gate_up_proj lacks pieces of some experts"),
])  # fmt: skip
def test_damage_is_one_line_that_names_the_tensor(kind: str, told: str, tmp_path: Path) -> None:
    packed, _ = foreign.write_folder(tmp_path, *CASES["gptq-4 v1"]())
    tensors = load_file(packed / "model.safetensors")
    damage(tensors, kind)
    save_file(tensors, packed / "model.safetensors")
    with pytest.raises(ModelError, match=told) as refusal:
        read(packed)
    assert "\n" not in refusal.value.message


def test_another_quantisation_than_the_folders_is_refused(tmp_path: Path) -> None:
    packed, _ = foreign.write_folder(tmp_path, *CASES["gptq-4 v1"]())
    config = EngineConfig(model=str(packed), quantization="nf4")
    with pytest.raises(ModelError, match=r"is in gptq-4, not nf4: leave quantization out"):
        read_weights(config, resolve(str(packed)))


SUITED = {"hidden_size": 128, "moe_intermediate_size": 64, "head_dim": 32, "num_hidden_layers": 2}
"""Sizes that divide into the kernels' units."""
DEVICES = [
    "cpu",
    pytest.param("cuda:0", marks=[
        pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    ]),
]  # fmt: skip


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", [
    "fp8 blocks", "fp8 rows", "gptq-4 v1", "gptq-8 v1", "awq-4", "nvfp4 modelopt", "gptq-4 v2 act-order",
    "gptq-8 v2 act-order", "gptq-4 v1 q, k and v in three orders", "ct-4 act-order",
])  # fmt: skip
def test_the_gpus_loader_keeps_it_packed_and_gives_the_cpus_logits(name: str, device: str, tmp_path: Path) -> None:
    """On a CPU with the kernels' references. The bound is fp16's: weights, and on a GPU activations, are rounded."""
    packed, _ = foreign.write_folder(tmp_path, *CASES[name](), **SUITED)
    config, source = EngineConfig(model=str(packed), max_batch=2, max_sequence=64), resolve(str(packed))
    loaded = cuda_loader._read(config, source, device)
    assert loaded.quantization == scheme_of(packed).label
    runner = cuda_loader._runner(config, loaded, device)
    tokens = [(7 * i + 3) % 500 for i in range(20)]
    runner.forward([RowInput(1, tokens, 0)])
    found = read(packed)
    assert found.tensors is not None
    decoder = Decoder(Shape.from_config(found.settings), found.tensors, slots=1, positions=64, dtype=torch.float32)
    logits = decoder.forward(torch.tensor(tokens), [Span(0, 0, 20, 0)], torch.tensor([19]))
    assert float((runner._logits[:1].cpu() - logits).norm() / logits.norm()) < 2e-2


def test_a_gpu_refuses_gate_and_up_in_two_orders_by_name_with_the_way_out(tmp_path: Path) -> None:
    packed, plain = foreign.write_folder(
        tmp_path, gptq_config(4, 32, desc_act=True),
        lambda module, w: foreign.gptq(w, 4, 32, v1=True, act_order=own_order(module)), **SUITED,
    )  # fmt: skip
    config = EngineConfig(model=str(packed), max_batch=2, max_sequence=64)
    with pytest.raises(ModelError, match=r"^model\.layers\.0\.mlp\.gate and up of one expert have .* different orders"):
        cuda_loader._read(config, resolve(str(packed)), "cpu")
    assert cuda_loader._read(config, resolve(str(plain)), "cpu").quantization == "bf16"
