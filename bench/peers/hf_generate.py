"""What a user would otherwise run: Hugging Face's generate() on the same shape, plain, masked, and with bitsandbytes.

bf16 random weights. The masked form uses XGrammar's own LogitsProcessor, the quantised form bitsandbytes' nf4 linear
layers (transformers leaves the experts in bf16 then). What cannot be imported on the machine is named, not skipped in
silence.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

TOKENS = 12


def measure(config: Path, batches: Sequence[int], prompt: int) -> list[dict[str, Any]]:
    """One row per batch and form: ms per token of generate(), the time of prefill taken out by a second, shorter
    run."""
    from engine.model.files.settings import read_config

    settings = read_config(config)
    if not torch.cuda.is_available():
        return [{"peer": "hf generate", "skipped": "no CUDA device"}]
    model = _random_model(settings)
    rows: list[dict[str, Any]] = []
    inputs = [torch.randint(0, settings.vocab_size, (size, prompt), device="cuda") for size in batches if size <= 8]
    for ids in inputs:
        rows.append({"peer": "hf generate, bf16", "batch": len(ids), "ms_per_step": round(_per_token(model, ids), 2)})
        rows.append(_masked(model, settings, ids))
    return rows + _bitsandbytes(model, inputs)


def _random_model(settings: Any) -> Any:
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(settings, dtype=torch.bfloat16)
    model = model.to_empty(device="cuda")
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                for part in parameter.view(-1, *parameter.shape[-2:]):
                    part.normal_(std=0.02)
            else:
                parameter.fill_(1.0)
        for module in model.modules():  # buffers that to_empty left undefined
            if hasattr(module, "inv_freq"):
                exponents = torch.arange(0, settings.head_dim, 2, device="cuda").float() / settings.head_dim
                module.inv_freq.copy_(1.0 / 10_000_000.0**exponents)
    return model.eval()


def _per_token(model: Any, ids: torch.Tensor, **extra: Any) -> float:
    def run(count: int) -> float:
        torch.cuda.synchronize()
        started = time.perf_counter()
        with torch.inference_mode():
            model.generate(ids, max_new_tokens=count, min_new_tokens=count, do_sample=True, pad_token_id=0, **extra)
        torch.cuda.synchronize()
        return (time.perf_counter() - started) * 1e3

    run(2)
    return (run(TOKENS + 2) - run(2)) / TOKENS


def _masked(model: Any, settings: Any, ids: torch.Tensor) -> dict[str, Any]:
    name = "hf generate, bf16, xgrammar LogitsProcessor"
    try:
        import xgrammar
    except ImportError as error:
        return {"peer": name, "batch": len(ids), "skipped": str(error)}
    words = [chr(33 + i % 90) + str(i) for i in range(settings.vocab_size)]
    info = xgrammar.TokenizerInfo(words, vocab_size=settings.vocab_size, stop_token_ids=[settings.eos_token_id])
    compiled = xgrammar.GrammarCompiler(info).compile_regex(r"[ -~]*")
    from xgrammar.contrib.hf import LogitsProcessor

    took = _per_token(model, ids, logits_processor=[LogitsProcessor(compiled)])
    return {"peer": name, "batch": len(ids), "ms_per_step": round(took, 2)}


def _bitsandbytes(model: Any, inputs: Sequence[torch.Tensor]) -> list[dict[str, Any]]:
    """The last form: it changes the model. Router, experts and head stay as transformers leaves them, in bf16."""
    name = "hf generate, bitsandbytes nf4 linear layers"
    try:
        use_linear_4bit(model)
    except (ImportError, RuntimeError) as error:
        return [{"peer": name, "skipped": str(error)}]
    return [{"peer": name, "batch": len(ids), "ms_per_step": round(_per_token(model, ids), 2)} for ids in inputs]


def use_linear_4bit(model: Any) -> int:
    """Replace attention's linear layers by bitsandbytes' nf4 ones, computing in bf16; gives how many."""
    from bitsandbytes.nn import Linear4bit, Params4bit

    chosen = [
        (path, module)
        for path, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and path.rsplit(".", 1)[-1].endswith("_proj")
    ]
    for path, module in chosen:
        made = Linear4bit(
            module.in_features, module.out_features, bias=module.bias is not None, compute_dtype=torch.bfloat16,
            quant_type="nf4", device="meta",
        )  # fmt: skip
        made.weight = Params4bit(module.weight.data, requires_grad=False, quant_type="nf4").to(module.weight.device)
        made.bias = module.bias
        model.set_submodule(path, made)
    return len(chosen)
