"""The runner for a GPU: fast forwards behind captured graphs, copies on a side stream, one synchronisation a step.

Implements `engine.interfaces.Runner`. A step of up to 64 tokens, or 256 where no row has many, replays one graph
(layers, head) chosen by its token count, padded to a power of two; others go through the prefill, in a graph up to
2,048 tokens. Sampling is a second graph behind the event that says that parameters and masks have arrived. On a CPU
the same code runs with the kernels' references and no graphs, which is how it is tested. Not thread-safe.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from engine.errors import EngineFailure
from engine.interfaces import RowInput, Sampled, SampleInputs, step_rows
from engine.model.architecture.shape import Shape
from engine.model.cpu.kv_blocks import Prefix
from engine.model.cuda import kv_cache
from engine.model.cuda.decode_forward import FEW, KERNELS, REFERENCES, DecodeForward
from engine.model.cuda.device_sampler import DeviceSampler, bucket_of
from engine.model.cuda.device_states import DeviceStates
from engine.model.cuda.device_streams import DeviceStreams
from engine.model.cuda.fragment_model import FragmentModel, Weights, fragment_model
from engine.model.cuda.prefill_forward import LONG_KERNELS, LONG_REFERENCES, PrefillForward
from engine.model.cuda.step_input import StepInput
from engine.model.cuda.wide_forward import WIDE, WIDE_KERNELS, WIDE_REFERENCES, WideForward, reads_much
from engine.model.kernels.attention import attend_few
from engine.model.kernels.attention.attention import Step
from engine.model.kernels.attention.tile_attention import Tiles
from engine.model.kernels.sampling.sampling import chunks_of_block, sample, sample_reference

if TYPE_CHECKING:
    from engine.model.kernels.compiling import Compilers

SHORT = 64
"""Steps of so many tokens need no query tiles, whoever's the tokens are."""
LONGEST_GRAPH = 2048
"""Longer prefills are launched kernel by kernel: the device is then slower than the host."""
_PASSES = [
    (stages, filtered, facts)
    for stages, filtered in (((), False), ((), True), ((0,), True), ((1,), True), ((0, 1), True))
    for facts in (False, True)
]
"""Every set of the sampler's kernels: compiled before the first request, captured when one asks for it."""
ALONG = 16
"""Up to so many tokens of a row a recurrent layer goes through them one after the other; of more, by chunks."""


class Path(NamedTuple):
    """Which captured forward."""

    tokens: int
    head: int
    """Rows that its head computes."""
    tiled: bool
    """Whether it takes rows in tiles of queries."""
    lone: bool = True
    """Where layers keep states, whether no row has several tokens."""
    far: bool = False
    """Whether a few tokens' caches are long."""


_CLOCKS = ("given", "begin", "ready", "copying", "masked", "woken", "done")


class CudaRunner:
    """See `engine.interfaces.Runner`. The cache has blocks for `max_batch` rows of `max_sequence`, or what fits."""

    def __init__(
        self, weights: Weights | FragmentModel, config: Any, *, max_batch: int, max_sequence: int,
        device: str = "cuda:0",
        quantization: str = "bf16", dtype: torch.dtype = torch.float16, cache: str = "fp16",
    ) -> None:  # fmt: skip
        """`weights` by Hugging Face's names on `device` (the mapping is emptied), or already laid out. `config`: the
        transformers config, or a `Shape`. `cache`: see `EngineConfig.kv_cache`. ModelError where not one request of
        `max_sequence` fits."""
        self._machine = DeviceStreams(torch.device(device))
        shape = config if isinstance(config, Shape) else Shape.from_config(config)
        with self._machine.on_main(), torch.inference_mode():
            model = weights if isinstance(weights, FragmentModel) else fragment_model(weights, shape)
            if self._machine.cuda:
                torch.cuda.empty_cache()
            self.max_batch, self.max_sequence = max_batch, max_sequence
            self.quantization, self.device = quantization, self._machine.name
            self._states = self._recurrent(model, dtype)
            kept = kv_cache.CODES if cache == "fp8" else dtype
            self.blocks = kv_cache.tables_that_fit(shape, max_sequence, max_batch, self._machine.free_bytes(), kept)
            self.memory = kv_cache.told(self.blocks, max_sequence)
            if self._states is not None:
                self.memory += f"\n{self._states}"
            self._cache = kv_cache.make_cache(shape, self.blocks.free, self._machine.device, kept)
            self._make(model, step_rows(max_batch))
        self._machine.synchronize()

    def _recurrent(self, model: FragmentModel, dtype: torch.dtype) -> DeviceStates | None:
        kind, taps = model.shape.delta_net, [layer.delta.taps for layer in model.layers if layer.delta is not None]
        if kind is None:
            return None
        sizes = {"slots": self.max_batch, "positions": self.max_sequence, "free": self._machine.free_bytes()}
        return DeviceStates(kind, torch.stack(taps), **sizes, dtype=dtype)

    def _make(self, model: FragmentModel, rows: int) -> None:
        cuda, device = self._machine.cuda, self._machine.device
        self.vocab_size = int(model.head.rows if not isinstance(model.head, Tensor) else model.head.shape[0])
        self._last = torch.zeros(self.max_batch, dtype=torch.int32, device=device)
        spans, states = (0, []) if self._states is None else (bucket_of(self.max_batch, WIDE), self._states.layers())
        self._input = StepInput(self._machine, LONGEST_GRAPH, rows, self.max_batch, self.blocks, spans)
        table, operations = self._input.table, KERNELS if cuda else REFERENCES
        self._few = DecodeForward(model, self._cache, table, self._last, operations, WIDE, states)
        self._wide = WideForward(self._few, WIDE_KERNELS if cuda else WIDE_REFERENCES)
        self._long = PrefillForward(self._few, LONG_KERNELS if cuda else LONG_REFERENCES)
        self._logits = torch.zeros(rows, self.vocab_size, device=device)
        self._sampler = DeviceSampler(self._machine, self._logits, self._last, sample if cuda else sample_reference)
        self._graphs: dict[Path, Callable[[], None]] = {}
        self._apply: dict[int, float] = {}
        self._clocks = [{name: self._machine.event() for name in _CLOCKS} for _ in range(4)]
        self._turn = 0
        self._sampling: dict[str, Any] = {}
        self._times: dict[str, float] = {}
        self.warm_s: dict[str, float] = {}
        """Seconds of `warm`: compile, capture."""

    def warm(
        self, tiled: Sequence[int] = (128, 256, 512, 640), compilers: Compilers | None = None,
        short: Sequence[int] = (),
    ) -> None:  # fmt: skip
        """Compile and capture what serving will need, before the first request: steps of `short` tokens (all powers of
        two, if none are named), and prefills of `tiled` tokens. `compilers` was started before."""
        most = max(SHORT, bucket_of(self.max_batch, WIDE))
        short = short or [1 << power for power in range(most.bit_length())]
        paths = [Path(count, count, False) for count in short]
        paths += [Path(count, min(count, SHORT), True, self._states is None) for count in tiled]
        if self._states is not None:
            paths += [Path(count, count, False, lone=False) for count in short[1:]]
        paths += [path._replace(far=True) for path in paths if self._are_long(path.tokens, self.max_sequence)]
        sampled = [count for count in short if count <= bucket_of(self.max_batch, self._sampler.capacity)]
        variants = [
            (count, stages, filtered, False) for count in sampled for stages, filtered in (((), False), ((1,), True))
        ]
        with self._machine.on_main(), torch.inference_mode():
            self._input.silence()
            works = [self._work(path) for path in paths]
            alike = {chunks_of_block(count): count for count in sampled}  # rows that take the same kernels
            works += [self._sampler.work((count, *passes)) for count in alike.values() for passes in _PASSES]
            if self._states is not None:
                works.append(self._states.warm)
            with self._few.one_block():
                self.warm_s["compile"] = self._machine.compile(works, compilers)
            started = time.perf_counter()
            for path in paths:
                self._graph(path)
            for variant in variants:
                self._sampler.graph(variant)
            self._apply = {count: self._sampler.mask_cost(count) for count in sampled}
        self._machine.synchronize()
        self.warm_s["capture"] = time.perf_counter() - started

    def forward(self, rows: Sequence[RowInput]) -> None:
        """One graph replay, after one copy of the step's integers to the device, beside the sampling before it."""
        read = self._clocks[self._turn]["ready"]
        self._turn = (self._turn + 1) % len(self._clocks)
        clock = self._clocks[self._turn]
        for row in rows:
            end = row.position + len(row.tokens)
            if not self.blocks.reserve(row.slot, row.position, end):
                raise EngineFailure(f"no free block of the KV cache for slot {row.slot} up to position {end}")
        if self._states is not None:  # what it feeds again is written where it lies, shared or not: it is the same
            with self._machine.on_main(), torch.inference_mode():
                rows = self._states.begin(rows)
        with self._machine.on_main(), torch.inference_mode():
            kv_cache.copy_blocks(self._cache, self.blocks.take_copies())
            places = () if self._states is None else self._states.places(rows)
            with self._machine.on_side():
                self._machine.side_waits(read)
                count, wanted = self._input.fill(rows, places)
                self._machine.record(clock["given"], side=True)
            self._machine.main_waits(clock["given"])
            if wanted > self._sampler.capacity:
                raise EngineFailure(f"a step wants {wanted} logits rows, the runner has {self._sampler.capacity}")
            self._machine.record(clock["begin"])
            if count <= LONGEST_GRAPH:
                self._graph(self._path(rows, count, wanted))()
            else:
                self._run_long(self._head_rows(count, wanted), *self._input.exact(count))
            self._machine.record(clock["ready"])
            if self._states is not None:
                self._states.end(rows)

    def _path(self, rows: Sequence[RowInput], count: int, wanted: int) -> Path:
        """The graph for the step. Many tokens of one row share the reading of its cache only as a tile of queries."""
        tiled = count > WIDE or (count > SHORT and any(reads_much(row) for row in rows))
        lone = count == len(rows)
        if self._states is not None and not lone:
            tiled = tiled or any(len(row.tokens) > ALONG for row in rows)
        step = 128 if count <= 1024 else 256
        bucket = -(-count // step) * step if tiled else bucket_of(count, WIDE)
        head, lone = self._head_rows(bucket, wanted), self._states is None or (lone and not tiled)
        return Path(bucket, head, tiled, lone, self._are_long(bucket, max(row.position for row in rows)))

    def _are_long(self, tokens: int, longest: int) -> bool:
        """Whether so many tokens are few, behind caches so long that other kernels are faster."""
        return tokens <= FEW and attend_few.are_long(tokens, self._few.caches[0], longest)

    def _head_rows(self, count: int, wanted: int) -> int:
        """Rows that the head computes: none, all of a short step, 64 of a long one, or as many as there can be."""
        return 0 if not wanted else min(count, SHORT if wanted <= SHORT else self._sampler.capacity)

    def _graph(self, path: Path) -> Callable[[], None]:
        """The captured forward."""
        if path not in self._graphs:
            self._input.silence()
            self._graphs[path] = self._machine.capture(self._work(path), self._few.one_block())
            self._input.restore()
        return self._graphs[path]

    def _work(self, path: Path) -> Callable[[], None]:
        """The launches of a step."""
        bucket, head, tiled, lone, far = path
        step, tiles = self._input.view(bucket, tiled=tiled, lone=lone, far=far)
        if tiled:
            return lambda: self._run_long(head, step, tiles)
        if bucket > FEW:
            return lambda: self._logits_of(head, self._wide.layers(step))

        def few() -> None:
            self._few.layers(step)
            self._logits_of(head, self._few.x)

        return few

    def _run_long(self, head: int, step: Step, tiles: Tiles) -> None:
        self._logits_of(head, self._long.layers(step, tiles))

    def _logits_of(self, head: int, x: Tensor) -> None:
        if head:
            self._few.logits(x, self._input.wanted[:head], self._logits[:head])

    def sample(self, inputs: SampleInputs) -> None:
        """Parameters and masks travel on the side stream beside the forward; the main stream waits, then samples."""
        clock = self._clocks[self._turn]
        with torch.inference_mode():
            with self._machine.on_side():
                if self._sampling:  # it reads what is overwritten now
                    self._machine.side_waits(self._sampling["done"])
                bucket = self._sampler.stage(inputs)
                if inputs.bitmask is not None:
                    self._machine.record(clock["copying"], side=True)
                    self._sampler.copy_mask(inputs.bitmask)
                self._machine.record(clock["masked"], side=True)
            with self._machine.on_main():
                self._machine.main_waits(clock["masked"])
                self._machine.record(clock["woken"])
                self._sampler.run(bucket)
                self._machine.record(clock["done"])
        if self._states is not None:
            self._states.sampling(inputs)
        self._sampling = {**clock, "copied": inputs.bitmask is not None, "rows": bucket}

    def wait(self) -> Sampled:
        """Waits for the event behind the copied ids, and for nothing that was enqueued after it."""
        clock = self._sampling
        self._machine.finish(clock["done"])
        took = self._machine.microseconds
        late = max(0.0, took(clock["ready"], clock["masked"])) if clock["copied"] else 0.0
        self._times = {
            "forward": took(clock["begin"], clock["ready"]),
            "mask_wait": late,
            "copy": took(clock["copying"], clock["masked"]) if clock["copied"] else 0.0,
            "apply": self._apply.get(clock["rows"], 0.0) if clock["copied"] else 0.0,
            "sample": took(clock["woken"], clock["done"]),
        }
        sampled = self._sampler.result()
        if self._states is not None:
            self._states.sampled(sampled.token_ids)
        return sampled

    def finished(self) -> bool:
        return self._machine.happened(self._sampling["done"])

    def reset_slot(self, slot: int, seen: Sequence[int] = ()) -> None:
        self._sampler.mark(slot, seen, fresh=True)

    def mark_seen(self, slot: int, tokens: Sequence[int]) -> None:
        self._sampler.mark(slot, tokens)

    def save_prefix(self, slot: int, length: int) -> Prefix:
        if self._states is None:
            return self.blocks.share(slot, length)
        with self._machine.on_main(), torch.inference_mode():
            return self.blocks.share(slot, length, self._states.save(slot, length))

    def load_prefix(self, slot: int, prefix: Prefix, length: int) -> None:
        self.blocks.adopt(slot, prefix, length)
        if self._states is not None:
            self._states.load(slot, prefix.saved, length)

    def timings(self) -> dict[str, float]:
        return dict(self._times)

    def close(self) -> None:
        """Drop graphs and cache; the device memory goes back to torch's pool."""
        self._machine.synchronize()
        self._graphs.clear()
        del self._few, self._wide, self._long, self._cache, self._logits, self._sampler, self._states
