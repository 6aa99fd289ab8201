"""Languages small enough to be enumerated, each with a model of its own, and the exact laws of their token sequences.

A text may be cut into tokens in several ways, and each is a sequence. Knows no engine: what is legal is read off the
list of sequences.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import numpy as np

LETTERS = "abcdefghijklmnopqrstuvwxyz"
TOKENS = (*LETTERS, "ab", "ba", "cd", "dc", "aa")
"""The 32nd is the stop token."""
STOP = len(TOKENS)
WIDTH = STOP + 1
Sequence_ = tuple[int, ...]
Law = Mapping[Sequence_, float]


class Model(Protocol):
    """What comes after a beginning."""

    def logits(self, beginning: Sequence_) -> np.ndarray:
        """float32 [WIDTH]."""


@dataclass(frozen=True)
class Noise:
    """A random row for each beginning, in which letters of the language and the stop token are likelier than others."""

    seed: int
    likely: frozenset[int]
    scale: float = 1.6
    favour: float = 2.5

    def logits(self, beginning: Sequence_) -> np.ndarray:
        row = np.random.default_rng([self.seed, len(beginning), *beginning]).normal(0, self.scale, WIDTH)
        row[[*self.likely, STOP]] += self.favour
        return row.astype(np.float32)


@dataclass(frozen=True)
class Markov:
    """A random row for each place and last token."""

    noise: Noise

    def logits(self, beginning: Sequence_) -> np.ndarray:
        return self.noise.logits((len(beginning), *beginning[-1:]))


@dataclass(frozen=True)
class Table:
    """Probabilities by beginning, as text; the rest is spread over all tokens."""

    rows: Mapping[str, Mapping[str, float]]

    def logits(self, beginning: Sequence_) -> np.ndarray:
        text = None if STOP in beginning else "".join(TOKENS[token] for token in beginning)
        told = self.rows.get(text, {}) if text is not None else {}
        row = np.full(WIDTH, max(1e-12, 1 - sum(told.values())) / WIDTH)
        for text, probability in told.items():
            row[STOP if text == "" else TOKENS.index(text)] += probability
        return np.log(row).astype(np.float32)


@dataclass(frozen=True)
class Language:
    """Texts, the model, and the temperature at which it is drawn from."""

    texts: tuple[str, ...]
    model: Model
    temperature: float = 1.0
    _rows: dict[Sequence_, np.ndarray] = field(default_factory=dict, compare=False)

    def logits(self, beginning: Sequence_) -> np.ndarray:
        """Remembered."""
        if beginning not in self._rows:
            self._rows[beginning] = self.model.logits(beginning)
        return self._rows[beginning]

    def probabilities(self, beginning: Sequence_) -> np.ndarray:
        """float64 [WIDTH], at the language's temperature."""
        scaled = self.logits(beginning).astype(np.float64) / self.temperature
        weights = np.exp(scaled - scaled.max())
        return np.asarray(weights / weights.sum())

    @cached_property
    def sequences(self) -> list[Sequence_]:
        return sorted((*cut, STOP) for text in self.texts for cut in cuts(text))

    @cached_property
    def evidence(self) -> float:
        """The probability that the model writes one of the texts."""
        return sum(self._free.values())

    @cached_property
    def truth(self) -> Law:
        return {sequence: weight / self.evidence for sequence, weight in self._free.items()}

    @cached_property
    def _free(self) -> Law:
        return {
            one: float(np.prod([self.probabilities(one[:at])[t] for at, t in enumerate(one)])) for one in self.sequences
        }

    @cached_property
    def masked(self) -> Law:
        """What drawing among the legal tokens gives."""
        legal: dict[Sequence_, set[int]] = {}
        for sequence in self.sequences:
            for at, token in enumerate(sequence):
                legal.setdefault(sequence[:at], set()).add(token)
        mass = {beginning: self.probabilities(beginning)[sorted(tokens)].sum() for beginning, tokens in legal.items()}
        return {
            one: float(weight / np.prod([mass[one[:at]] for at in range(len(one))]))
            for one, weight in self._free.items()
        }


def cuts(text: str) -> Iterator[Sequence_]:
    """All ways to write a text in tokens."""
    if not text:
        yield ()
    for index, token in enumerate(TOKENS):
        if text.startswith(token):
            yield from ((index, *rest) for rest in cuts(text[len(token) :]))


def distance(one: Law, other: Law) -> float:
    """Total variation."""
    return sum(abs(one.get(key, 0.0) - other.get(key, 0.0)) for key in {*one, *other}) / 2


def chi_squared(truth: Law, proposal: Law) -> float:
    """Of the truth against what is proposed."""
    return sum(p * p / proposal[key] for key, p in truth.items()) - 1


def law_of(sequences: Sequence[Sequence_]) -> Law:
    """How often each occurs."""
    share = 1 / len(sequences)
    counted: dict[Sequence_, float] = {}
    for sequence in sequences:
        counted[sequence] = counted.get(sequence, 0.0) + share
    return counted


def exact_distances(law: Law, draws: int, repeats: int, seed: int) -> list[float]:
    """The distances from a law that so many exact draws from it show."""
    keys, generator = list(law), np.random.default_rng(seed)
    counts = generator.multinomial(draws, [law[key] for key in keys], size=repeats) / draws
    return [distance(law, dict(zip(keys, row, strict=True))) for row in counts.tolist()]


def twelve() -> list[Language]:
    """The first twelve random languages of 8 to 64 sequences which masks distort, and which particles can find."""
    found: list[Language] = []
    seed = 0
    while len(found) < 12:
        seed += 1
        language = _random(seed)
        far = distance(language.masked, language.truth)
        fits = 8 <= len(language.sequences) <= 64 and chi_squared(language.truth, language.masked) <= 8
        if fits and 0.2 <= far <= 0.6:
            found.append(language)
    return found


def _random(seed: int) -> Language:
    draw = random.Random(seed)
    texts = {"".join(draw.choices("abcd", k=draw.randint(1, 4))) for _ in range(draw.randint(6, 14))}
    likely = frozenset(index for index, token in enumerate(TOKENS) if set(token) <= set("abcd"))
    return Language(tuple(sorted(texts)), Noise(seed, likely), draw.choice((0.7, 1.0, 1.0, 1.3)))


HIDDEN = Language(
    ("wx", "yz"),
    Table(
        {
            "": {"w": 0.001, "y": 0.99},
            "w": {"x": 0.9},
            "wx": {"": 0.9},
            "y": {"z": 1e-9, "a": 1 - 1e-9},
            "yz": {"": 0.9},
        }
    ),
)
"""Most of the truth begins with a token of probability 0.001."""


@dataclass(frozen=True)
class Walks:
    """Texts of 1 to `longest` of these letters, under a Markov model: its evidence follows from dynamic programming."""

    letters: str = "wxyz"
    longest: int = 6
    seed: int = 5

    @property
    def language(self) -> Language:
        likely = frozenset(TOKENS.index(letter) for letter in self.letters)
        return Language((), Markov(Noise(self.seed, likely)))

    @property
    def pattern(self) -> str:
        return f"[{self.letters}]{{1,{self.longest}}}"

    def evidence(self) -> float:
        """The probability that the model writes such a text."""
        language, letters = self.language, [TOKENS.index(letter) for letter in self.letters]
        after = dict.fromkeys(letters, 0.0)
        for place in range(self.longest, 0, -1):
            rows = {last: language.probabilities((0,) * (place - 1) + (last,)) for last in letters}
            after = {
                last: float(row[STOP] + (sum(row[n] * after[n] for n in letters) if place < self.longest else 0.0))
                for last, row in rows.items()
            }
        first = language.probabilities(())
        return float(sum(first[token] * after[token] for token in letters))
