"""Second moments of what each weight is multiplied with, taken from a model's own forward over some text.

Layer by layer: hidden states of the text are kept, one layer's float weights and its moments are in memory at a time.
All layers see what the unquantised model gives them, so that moments do not depend on how weights are rounded, and an
interrupted run that starts again finds the same ones.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from accelerate.utils import set_module_tensor_to_device
from torch import Tensor, nn
from transformers import PreTrainedModel

from engine.errors import RequestError
from engine.model.hf.experts import is_experts_module, use_experts_forward
from engine.model.weights.inventory import PLAIN, wanted_format

WINDOW = 512
"""Tokens of one sequence."""
MOST_WINDOWS = 128
"""Of the text, from its beginning; what is beyond is not read."""
PRIOR_TOKENS = 128
"""Tokens of what all experts see that each expert is taken to have seen too; see `Moments.of_experts`."""
_AT_ONCE = 8
_LAYER = re.compile(r"\.layers\.(\d+)\.")


class Moments:
    """Sums of x x^T, one for a linear layer and one an expert for experts, and how many x there were."""

    def __init__(self) -> None:
        self._sums: dict[int, Tensor] = {}
        self._counts: dict[int, int] = {}

    def add(self, inputs: Tensor, expert: int = 0) -> None:
        """Inputs [T, K]."""
        product = inputs.T @ inputs
        self._sums[expert] = self._sums[expert] + product if expert in self._sums else product
        self._counts[expert] = self._counts.get(expert, 0) + len(inputs)

    def of_linear(self) -> Tensor:
        """The mean, fp32 [K, K]."""
        return self._sums[0] / self._counts[0]

    def of_experts(self, experts: int, *, shared: bool) -> Tensor:
        """The means, fp32 [E, K, K], each with PRIOR_TOKENS tokens of a prior: an expert that few tokens visit keeps
        close to it, one that none visits has it alone.

        The prior is the mean over all visits where experts share their inputs' axis (`shared`: gate and up); down's
        columns are each expert's own, and its prior makes all equal.
        """
        sums, visits = sum(self._sums.values()), max(1, sum(self._counts.values()))
        assert isinstance(sums, Tensor)
        prior = sums / visits
        if not shared:
            prior = torch.eye(len(prior), device=prior.device) * prior.diagonal().mean()
        means = prior.expand(experts, *prior.shape).clone()
        for expert, own in self._sums.items():
            means[expert] = (own + PRIOR_TOKENS * prior) / (self._counts[expert] + PRIOR_TOKENS)
        return means


class Calibration:
    """`model`, of an architecture that the CPU decoder knows, is on meta; `read` gives a weight by name; `windows` are
    token ids [B, T]. Asked for weights in the model's order: layers are gone through once."""

    def __init__(
        self, model: PreTrainedModel, read: Callable[[str], Tensor], windows: Tensor, device: torch.device | str
    ) -> None:
        use_experts_forward(model)
        self._model = model
        self._read = read
        self._windows = windows
        self._device = device
        self._layers: Any = model.get_submodule("model.layers")
        self._states: list[Tensor] = []
        self._arguments: list[dict[str, Any]] = []
        self._layer = -1
        self._moments: dict[str, Moments] = {}

    def moments(self, name: str) -> Tensor | None:
        """[K, K], of experts [E, K, K]; None for what stands outside the layers, the head."""
        found = _LAYER.search(name)
        if found is None:
            return None
        if self._layer < 0:
            self._begin()
        while self._layer < int(found[1]):
            self._layer += 1
            self._pass(self._layer)
        if (moments := self._moments.get(name)) is None:
            return None
        shape = self._model.get_parameter(name).shape
        shared = not name.endswith("down_proj")
        return moments.of_linear() if len(shape) == 2 else moments.of_experts(shape[0], shared=shared)

    @torch.no_grad()
    def _begin(self) -> None:
        """The first layer's inputs, as the model's own forward makes them."""
        name = "model.embed_tokens.weight"
        self._place(name)
        for buffer, value in list(self._model.named_buffers()):
            set_module_tensor_to_device(self._model, buffer, self._device, value=value)
        hook = self._layers[0].register_forward_pre_hook(self._caught, with_kwargs=True)
        for part in self._windows.split(_AT_ONCE):
            try:
                self._model(input_ids=part.to(self._device), use_cache=False)
            except _Caught:
                continue
        hook.remove()
        set_module_tensor_to_device(self._model, name, "meta")

    def _caught(self, _: nn.Module, states: tuple[Tensor, ...], arguments: dict[str, Any]) -> None:
        self._states.append(states[0])
        self._arguments.append(arguments)
        raise _Caught

    @torch.no_grad()
    def _pass(self, index: int) -> None:
        """Through one layer, whose weights come and go."""
        layer, prefix = self._layers[index], f"model.layers.{index}"
        names = [f"{prefix}.{name}" for name, _ in layer.named_parameters()]
        for name in names:
            self._place(name)
        self._moments = {}
        hooks = list(self._watch(prefix, layer))
        for number, arguments in enumerate(self._arguments):
            self._states[number] = layer(self._states[number], **arguments)
        for hook in hooks:
            hook()
        for name in names:
            set_module_tensor_to_device(self._model, name, "meta")

    def _watch(self, prefix: str, layer: nn.Module) -> Iterable[Callable[[], None]]:
        """Let every product of the layer tell its inputs; gives what ends that."""
        for path, module in layer.named_modules():
            name = f"{prefix}.{path}"
            if isinstance(module, nn.Linear) and wanted_format(f"{name}.weight", 2, "nl4") != PLAIN:
                moments = self._moments[f"{name}.weight"] = Moments()
                yield module.register_forward_pre_hook(_linear_hook(moments)).remove
            elif is_experts_module(module):
                module.seen = _experts_hook(self._moments, name)
                yield lambda module=module: delattr(module, "seen")  # type: ignore[misc]  # a default binds it

    def _place(self, name: str) -> None:
        set_module_tensor_to_device(self._model, name, self._device, value=self._read(name), dtype=torch.float32)


class _Caught(Exception):
    """Ends a forward of which no more is wanted."""


def windows_of(texts: Iterable[Sequence[int]], end: int) -> Tensor:
    """Texts one after the other, each with an end token, cut into windows [B, T]. What is left over is dropped, and
    RequestError where there is not even a token."""
    joined = [token for ids in texts for token in (*ids, end)]
    count = min(MOST_WINDOWS, len(joined) // WINDOW)
    if len(joined) < 2:
        raise RequestError("the calibration prompts hold no text", param="calibrate")
    if not count:
        return torch.tensor([joined])
    return torch.tensor(joined[: count * WINDOW]).view(count, WINDOW)


def _linear_hook(moments: Moments) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
    def hook(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        moments.add(inputs[0].reshape(-1, inputs[0].shape[-1]))

    return hook


def _experts_hook(kept: dict[str, Moments], name: str) -> Callable[[str, int, Tensor], None]:
    def hook(leaf: str, expert: int, inputs: Tensor) -> None:
        kept.setdefault(f"{name}.{leaf}", Moments()).add(inputs, expert)

    return hook
