"""How much planted damage is found in a mixture of experts, and how often sound matrices raise an alarm.

    python -m bench.damage --model FOLDER [--formats nf4,...] [--plants 20] [--sound 20000] [--seed 0] [--quick]

FOLDER is a mixture in 16 bits with Hugging Face's names (`python -m bench.quantization.trained` makes one). In every
format each kind of damage is planted `--plants` times, one expert of one layer each time, and looked for without a
source and with one, by what `maskloop models inspect` uses (engine/model/damage.py). Sound matrices are all the
folder's experts in every format, the embedded model's linear layers, and made ones until there are `--sound`.
`--quick` plants in made experts. Figures: `found` and `against` by format and kind, null where a format cannot have
that damage; `sound` and `alarms` by origin, with and without a source; `collateral`: sound experts named beside a
planted one.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.damage.formats import FORMATS, Coded
from bench.damage.layers import Layer, all_made, embedded, made, trained
from bench.damage.plants import PLANTS
from bench.harness.commandline import Options
from bench.harness.record import emit, record
from bench.harness.tables import print_table
from engine.model import damage
from engine.model.damage import Errors, Facts, Finding

ALIKE = "two experts alike"
KINDS = (*PLANTS, ALIKE)
MADE = (24, 128, 256)
"""Experts of a made layer, rows and columns."""
EMBEDDED_FORMATS = ("nf4", "q4_0", "q6_k", "fp8-rows")
"""Formats in which the embedded model's layers, which are large, are looked at."""


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    torch.set_num_threads(1)  # matrices are small: threads would wait for each other
    layers = [made(seed, *MADE) for seed in range(QUICK_LAYERS)] if options.quick else trained(Path(options.model))
    figures: dict[str, Any] = {"found": {}, "against": {}, "sound": {}, "alarms": {}, "collateral": 0}
    for name in options.formats:
        started = time.monotonic()
        held = [Held(layer, name) for layer in layers]
        _count_sound(figures, "experts", held)
        found, against, beside = _planted(held, options.plants, random.Random(f"{options.seed} {name}"))
        figures["found"][name], figures["against"][name] = found, against
        figures["collateral"] += beside
        print(f"{name}: {found}, {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    if not options.quick:
        _count_dense(figures)
    for at, layer in zip(_until(figures, options.sound), all_made(10_000 * options.seed, *MADE), strict=False):
        _count_sound(figures, "made", [Held(layer, options.formats[at % len(options.formats)])])
    _show(figures, options.plants)
    configuration = {name: getattr(options, name) for name in ("formats", "plants", "sound", "quick")}
    emit(record("damage", figures, configuration=configuration, seeds=[options.seed]), options.out)
    return 0


QUICK_LAYERS = 4
"""Made layers of `--quick`."""


class Held:
    """A layer's experts in a format, and what is known of them while they are sound."""

    def __init__(self, layer: Layer, format_name: str) -> None:
        name, self.sources = layer
        self.axis = damage.hidden_axis(name)
        self.coded: list[Coded] = [FORMATS[format_name](matrix) for matrix in self.sources]
        values = [coded.value for coded in self.coded]
        self.facts = {f"{name}[{i}]": damage.facts_of(value, self.axis) for i, value in enumerate(values)}
        pairs = zip(self.facts, values, self.sources, strict=True)
        self.errors = {name: damage.against(value, source) for name, value, source in pairs}

    def look(self, changed: dict[str, Facts]) -> list[Finding]:
        """Findings without a source."""
        facts = self.facts | changed
        alone = [finding for name, fact in facts.items() for finding in damage.alone(name, fact)]
        return alone + damage.among_siblings(facts)

    def compare(self, changed: dict[str, Errors]) -> list[Finding]:
        """Findings with one."""
        return damage.beyond(self.errors | changed)


def _planted(
    held: list[Held], plants: int, draw: random.Random
) -> tuple[dict[str, int | None], dict[str, int | None], int]:
    """How many were found by kind, without a source and with one, and how many sound experts were named."""
    found: dict[str, int | None] = {}
    against: dict[str, int | None] = {}
    beside = 0
    for kind in KINDS:
        hits, compared, done = 0, 0, 0
        for _ in range(10 * plants if kind in PLANTS else plants):
            layer, at = draw.choice(held), draw.randrange(len(held[0].coded))
            other = (at + 1 + draw.randrange(len(layer.coded) - 1)) % len(layer.coded)
            value = _damaged(kind, layer, at, other, draw)
            if value is None or done == plants:
                continue
            done += 1
            name, culprits = list(layer.facts)[at], {list(layer.facts)[at]}
            culprits |= {list(layer.facts)[other]} if kind == ALIKE else set()
            named = {finding.name for finding in layer.look({name: damage.facts_of(value, layer.axis)})}
            hits += bool(named & culprits)
            beside += len(named - culprits)
            compared += name in {f.name for f in layer.compare({name: damage.against(value, layer.sources[at])})}
        found[kind], against[kind] = (hits, compared) if done else (None, None)
    return found, against, beside


def _damaged(kind: str, layer: Held, at: int, other: int, draw: random.Random) -> Tensor | None:
    if kind == ALIKE:
        return layer.coded[other].value
    return PLANTS[kind](layer.coded[at], layer.axis, torch.Generator().manual_seed(draw.randrange(2**31)))


def _count_sound(figures: dict[str, Any], origin: str, held: list[Held]) -> None:
    for layer in held:
        _add(figures, origin, len(layer.coded), [*layer.look({}), *layer.compare({})])


def _count_dense(figures: dict[str, Any]) -> None:
    """The embedded model has no experts: what is seen of its matrices one by one, and beside their source."""
    layers = embedded()
    for name in EMBEDDED_FORMATS:
        errors, alone = {}, []
        for layer, source in layers:
            value = FORMATS[name](source[:, : source.shape[1] // 128 * 128].contiguous()).value
            alone += damage.alone(layer, damage.facts_of(value))
            errors[layer] = damage.against(value, source[:, : value.shape[1]])
        _add(figures, "embedded", len(layers), [*alone, *damage.beyond(errors)])


def _add(figures: dict[str, Any], origin: str, matrices: int, findings: list[Finding]) -> None:
    figures["sound"][origin] = figures["sound"].get(origin, 0) + matrices
    figures["alarms"][origin] = figures["alarms"].get(origin, 0) + len(findings)
    for finding in findings:
        print(f"false alarm, {origin}: {finding}", file=sys.stderr, flush=True)


def _until(figures: dict[str, Any], wanted: int) -> Iterator[int]:
    """Numbers, until there are so many sound matrices."""
    turn = 0
    while sum(figures["sound"].values()) < wanted:
        yield turn
        turn += 1


def _show(figures: dict[str, Any], plants: int) -> None:
    print(f"found of {plants}, without a source / with one")
    rows = [
        [name, *("-" if row[kind] is None else f"{row[kind]} / {figures['against'][name][kind]}" for kind in KINDS)]
        for name, row in figures["found"].items()
    ]
    print_table(["format", *KINDS], rows)
    alarms, sound = sum(figures["alarms"].values()), sum(figures["sound"].values())
    print(
        f"{alarms} false alarms in {sound:,} sound matrices {figures['sound']}; {figures['collateral']} beside plants"
    )


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = Options("damage", __doc__, "made experts, three formats, three plants of a kind")
    parser.add_model("model")
    parser.add(formats=tuple(FORMATS), plants=20, sound=20_000, seed=0)
    options = parser.read(arguments, formats=["nf4", "q4_1", "fp8-rows"], plants=3, sound=400)
    if options.model is None and not options.quick:
        parser.error("--model: name the folder of a mixture of experts")
    if unknown := set(options.formats) - set(FORMATS):
        parser.error(f"--formats: no {', '.join(sorted(unknown))}; known: {', '.join(FORMATS)}")
    return options


if __name__ == "__main__":
    sys.exit(main())
