"""A small Qwen3-MoE trained on the standard library's source, for studies: its weights lie on no grid.

    python -m bench.quantization.trained --out DIR [--steps 3000] [--seconds N] [--seed 0] [--device auto] [--quick]

48 million weights (24 experts, 4 of them a token), a tokenizer of its own; some minutes on an H200. `--quick` makes one
of 2.5 million that a CPU trains in minutes. With `--seconds` training ends after so long at the latest.
DIR holds the model, and beside it what it was not trained on: `calibration.jsonl`, prompts for `--calibrate`, and
`evaluation.txt` for `--text`:

    python -m bench.quantization DIR --formats nf4,nl4 --calibrate DIR/calibration.jsonl --text DIR/evaluation.txt

Files are divided by a hash of their names: of twenty, one is for calibration and one for evaluation.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import sys
import sysconfig
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import PreTrainedTokenizerFast, Qwen3MoeConfig, Qwen3MoeForCausalLM

from bench.harness.commandline import Options
from bench.harness.record import emit, record
from engine.model.loader import choose_device

END = "<|endoftext|>"
FULL = {
    "hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 64,
    "num_experts": 24, "num_experts_per_tok": 4, "moe_intermediate_size": 256, "vocab_size": 4096,
}  # fmt: skip
QUICK = {
    "hidden_size": 192, "num_hidden_layers": 3, "num_attention_heads": 3, "num_key_value_heads": 1, "head_dim": 64,
    "num_experts": 16, "num_experts_per_tok": 2, "moe_intermediate_size": 64, "vocab_size": 1024,
}  # fmt: skip
PART_CHARS = 1_500
"""Of one calibration prompt."""
WARM_STEPS = 50
TOLD_EVERY = 50


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, save, tell the loss; the JSON line last."""
    options = _options(arguments)
    texts = divided(options.chars)
    tokenizer = _tokenizer(texts["training"], options.shape["vocab_size"])
    tokens = _tokens(tokenizer, texts["training"])
    device = choose_device(options.device)
    print(f"{len(tokens):,} tokens of {len(texts['training'])} files, on {device}", file=sys.stderr, flush=True)
    model, losses = _train(options, tokens, device)
    held_out = _loss(model, _tokens(tokenizer, texts["evaluation"])[: 64 * 257], device)
    save(options.out, model, tokenizer, texts)
    print(f"{options.out}: {model.num_parameters():,} weights, loss {losses[-1]:.3f}, held out {held_out:.3f}")
    configuration = {"steps": options.steps, "batch": options.batch, "window": options.window, **options.shape}
    figures = {"weights": model.num_parameters(), "loss": losses, "held_out_loss": held_out, "tokens": len(tokens)}
    emit(record("trained", figures, configuration=configuration, seeds=[options.seed], device=device), None)
    return 0


def divided(chars: int) -> dict[str, list[str]]:
    """The library's source in an order of hashes: at most `chars` characters for training, an 18th for each other."""
    root = Path(sysconfig.get_paths()["stdlib"])
    texts: dict[str, list[str]] = {"training": [], "calibration": [], "evaluation": []}
    left = {"training": chars, "calibration": chars // 18, "evaluation": chars // 18}
    for file in sorted(root.rglob("*.py"), key=lambda file: _digest(file, root)):
        name = str(file.relative_to(root))
        if "site-packages" in name:
            continue
        use = {0: "calibration", 1: "evaluation"}.get(_digest(file, root)[0] % 20, "training")
        text = file.read_text(encoding="utf-8", errors="replace")
        if text.strip() and left[use] > 0:
            texts[use].append(text[: left[use]])
            left[use] -= len(text)
    return texts


def save(
    out: Path, model: Qwen3MoeForCausalLM, tokenizer: PreTrainedTokenizerFast, texts: dict[str, list[str]]
) -> None:
    """The model in bf16, as models are handed out, and the texts."""
    model.to(torch.bfloat16).save_pretrained(out)
    tokenizer.save_pretrained(out)
    (out / "evaluation.txt").write_text("\n".join(texts["evaluation"]), encoding="utf-8")
    parts = (text[at : at + PART_CHARS] for text in texts["calibration"] for at in range(0, len(text), PART_CHARS))
    lines = (json.dumps({"prompt": part}) + "\n" for part in parts)
    (out / "calibration.jsonl").write_text("".join(lines), encoding="utf-8")


def _train(options: argparse.Namespace, tokens: Tensor, device: str) -> tuple[Qwen3MoeForCausalLM, list[float]]:
    torch.manual_seed(options.seed)
    config = Qwen3MoeConfig(
        **options.shape, intermediate_size=options.shape["hidden_size"] * 4, max_position_embeddings=2048,
        norm_topk_prob=True, output_router_logits=True, router_aux_loss_coef=0.01, tie_word_embeddings=False,
        bos_token_id=None, eos_token_id=0, pad_token_id=0,
    )  # fmt: skip
    model = Qwen3MoeForCausalLM(config).to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.rate, betas=(0.9, 0.95), weight_decay=0.05)
    losses, started = [], time.monotonic()

    def share(step: int) -> float:
        return min(1.0, max(step / options.steps, (time.monotonic() - started) / options.seconds))

    pace = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _pace(step, share(step)))
    for step, drawn in enumerate(_batches(tokens, options)):
        batch = drawn.to(device)
        with torch.autocast(device.partition(":")[0], torch.bfloat16, enabled=device != "cpu"):
            loss = model(input_ids=batch, labels=batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        pace.step()
        last = step + 1 == options.steps or share(step) == 1
        if (step + 1) % TOLD_EVERY == 0 or last:
            losses.append(loss.item())
            print(f"{step + 1}: {losses[-1]:.3f}, {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
        if last:
            break
    model.config.output_router_logits = False
    return model.eval(), losses


def _pace(step: int, share: float) -> float:
    """Up over WARM_STEPS, then down along a cosine to a twentieth; `share` of the training is done."""
    return min(1.0, (step + 1) / WARM_STEPS) * (0.525 + 0.475 * math.cos(math.pi * share))


def _batches(tokens: Tensor, options: argparse.Namespace) -> Iterator[Tensor]:
    """Windows [B, T] from random places."""
    generator = torch.Generator().manual_seed(options.seed)
    for _ in range(options.steps):
        starts = torch.randint(len(tokens) - options.window, (options.batch,), generator=generator)
        yield tokens[starts[:, None] + torch.arange(options.window)]


@torch.no_grad()
def _loss(model: Qwen3MoeForCausalLM, tokens: Tensor, device: str) -> float:
    windows = tokens[: len(tokens) // 257 * 257].view(-1, 257).to(device)
    return float(sum(model(input_ids=part, labels=part).loss * len(part) for part in windows.split(8)) / len(windows))


def _tokenizer(texts: Sequence[str], size: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE, of which `END` is token 0."""
    rust = Tokenizer(models.BPE())
    rust.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    rust.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    rust.train_from_iterator(
        texts,
        trainers.BpeTrainer(vocab_size=size, special_tokens=[END], initial_alphabet=alphabet, show_progress=False),
    )
    return PreTrainedTokenizerFast(tokenizer_object=rust, eos_token=END)


def _tokens(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> Tensor:
    """All texts, an end after each."""
    ids = tokenizer(list(texts))["input_ids"]
    return torch.tensor([token for text in ids for token in (*text, 0)])


def _digest(file: Path, root: Path) -> bytes:
    return hashlib.sha256(str(file.relative_to(root)).encode()).digest()


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = Options("quantization.trained", __doc__, "a model of 2.5 million weights, 250 steps")
    parser.add_model("device")
    parser.add(steps=3000, batch=64, window=512, rate=1e-3, seed=0, chars=40_000_000, seconds=math.inf)
    options = parser.read(arguments, steps=250, batch=8, window=128, rate=3e-3, chars=4_000_000)
    if options.out is None:
        parser.error("--out: say where the model is written")
    options.shape = QUICK if options.quick else FULL
    return options


if __name__ == "__main__":
    sys.exit(main())
