"""One request in flight and its samples. Holds state that others change; decides nothing.

A `Job` is a request after its prompt was encoded; a `Sample` is one of its n texts and occupies one slot while it runs.
"""

from __future__ import annotations

import hashlib
import struct
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

from engine.checks.languages import Languages
from engine.checks.row_checks import Check, RowChecks
from engine.decode.requests.detokenizer import Detokenizer
from engine.decode.requests.opinions import Opinions, Question
from engine.errors import EngineError, EngineFailure
from engine.grammar import CompiledGrammar, Matcher
from engine.interfaces import StepRecord
from engine.judge import Undecided
from engine.request import Request, Result, Status

OnText = Callable[[int, str], None]
"""Called from the decode thread with (sample, settled text)."""
Trace = Callable[[StepRecord], None]


def now() -> float:
    """Seconds of the clock that deadlines are measured by."""
    return time.perf_counter()


@dataclass(frozen=True, slots=True)
class Drawn:
    """What a step has drawn for a row: how many tokens were legal, and the log of their share of the model."""

    token: int
    legal: int
    log_mass: float
    log_probability: float
    """Of the token, by the free model."""


@dataclass(frozen=True, slots=True)
class Findings:
    """What the Result says of how a text was drawn."""

    log_evidence: float | None
    log_weight: float
    effective_samples: float
    resamplings: int = 0
    warnings: tuple[str, ...] = ()


class Conditional(Protocol):
    """Who draws a sample from the model's own distribution, given that the text is valid. All that it writes may be
    taken back until the sample has a status."""

    ahead: bool
    """A step may be launched before its token is known: where the text is taken back, so is the step."""

    def take(self, sample: Sample, drawn: Drawn) -> None:
        """Go on from what was drawn for the sample."""

    def bias(self) -> Mapping[int, float] | None:
        """What the next draw adds to the log-probabilities of some tokens."""

    def dissolve(self, sample: Sample) -> tuple[list[Sample], list[Sample]]:
        """The sample has a status: those that are over with it, unanswered, and those that are answered."""

    def findings(self, sample: Sample) -> Findings:
        """Of a sample that has ended."""


@dataclass(eq=False, slots=True)
class Job:
    """A request between submission and its result. `grammar` is a future while it compiles, None for free text."""

    request: Request
    prompt: list[int]
    seed: int
    grammar: Future[CompiledGrammar] | None
    future: Future[Result]
    owner: str | None = None
    """Whose request it is: ids are unique, and rows are shared, by owner."""
    on_text: OnText | None = None
    trace: Trace | None = None
    want_stats: bool = False
    submitted: float = field(default_factory=time.perf_counter)
    checks: tuple[Check, ...] = ()
    """Of the caller's own."""
    languages: Languages | None = None
    """In which strings of it are to be written."""
    created: float = field(default_factory=time.time)
    samples: list[Sample] = field(default_factory=list)
    cancelled: bool = False
    deadline: float | None = field(init=False)
    """Time by `now` after which nothing more is decoded."""
    admitted: bool = False
    """Its grammar was there and its budget suffices, or it is free text."""
    keeper: object = None
    """Kept alive while the job is in flight: the engine, which nobody else may hold."""

    def __post_init__(self) -> None:
        self.deadline = None if self.request.deadline_s is None else now() + self.request.deadline_s

    @property
    def salt(self) -> str:
        return self.request.cache_salt or ""

    def expire(self) -> None:
        """Its deadline is now, whatever the request says."""
        self.deadline = now() if self.deadline is None else min(now(), self.deadline)

    def overdue(self, grace_s: float = 0.0) -> bool:
        """Whether its deadline was `grace_s` ago, or longer."""
        return self.deadline is not None and now() >= self.deadline + grace_s

    @property
    def compiling(self) -> bool:
        """Its grammar is not there yet: a row of it could not decode."""
        return self.grammar is not None and not self.grammar.done()

    def settle(self, outcome: Result | EngineError) -> None:
        """Tell whoever waits. What a callback of the future raises is the caller's affair, not the decode thread's."""
        self.keeper = None
        if self.grammar is not None:
            self.grammar.cancel()  # where it is not there yet nobody needs it
        with suppress(BaseException):
            if self.future.set_running_or_notify_cancel():
                if isinstance(outcome, Result):
                    self.future.set_result(outcome)
                else:
                    self.future.set_exception(outcome)

    @property
    def together(self) -> int:
        """Rows that can only go on together."""
        return self.request.sampling.particles if self.request.sampling.method == "smc" else 1

    @property
    def begun(self) -> bool:
        """Some row of it has had a slot."""
        return self.samples[0].slot is not None or self.samples[0].started is not None

    @property
    def lacking(self) -> int:
        """Slots without which its rows cannot go on."""
        return sum(sample.slot is None and not sample.waits for sample in self.samples)

    def compiled(self) -> CompiledGrammar | None:
        """The grammar, once it is there. Raises the typed error of a failed compilation."""
        return self.grammar.result() if self.grammar is not None and self.grammar.done() else None


@dataclass(eq=False, slots=True)
class Sample:
    """One text being decoded. `cached` of its tokens are in the KV cache; the rest is what the next step feeds."""

    job: Job
    index: int
    seed: int
    budget: int
    """Most completion tokens, the stop token included."""
    text: Detokenizer
    slot: int | None = None
    cached: int = 0
    flying: int = 0
    """Tokens of launched steps which the host has not seen, if their drafts hold; they follow the known ones."""
    hold: bool = False
    """Do not launch ahead of the host: the step in flight brings no token, or fewer than it was to, or they may be
    taken back."""
    output: list[int] = field(default_factory=list)
    draft: list[int] = field(default_factory=list)
    matcher: Matcher | None = None
    checks: RowChecks | None = None
    pieces: list[str] = field(default_factory=list)
    withheld: str = ""
    """The end of the text, which may still be taken back; `told` characters before it were handed on."""
    told: int = 0
    around_strings: bool = False
    """Nothing of it is taken back but strings in languages, with what comes behind them; `settled` tokens are not."""
    settled: int = 0
    ending: list[int] = field(default_factory=list)
    """What is still to be written of its ending, last token first."""
    sought: Callable[..., None] | None = None
    """How to go on looking for its ending, for so many `pieces`."""
    forced: int = 0
    retries: int = 0
    steered: int = 0
    """Tokens that were taken back because a string could not become valid any more, or was cut to where it was."""
    epoch: int = 0
    """Raised when tokens are taken back or the row is put back: steps launched before that are void."""
    since: int = 0
    """The scheduler's step at which it got its slot."""
    put_back: int = 0
    """Times it had to give its slot to somebody else."""
    logprobs: list[dict[str, Any]] = field(default_factory=list)
    opinions: Opinions = field(default_factory=Opinions)
    question: Question | None = None
    """What must be judged before the row can go on."""
    mask: Future[float] | None = None
    """The mask without which it cannot go on, being made or there, and after how many tokens it is wanted."""
    made_at: int = -1
    conditional: Conditional | None = None
    """Of the methods that are not `mask`."""
    waits: bool = False
    """It cannot go on before its siblings have come as far: it needs no slot until then."""
    source: Sample | None = None
    """The sibling whose text it has taken over, whose logits of the step in flight are its own too."""
    log_mass: float = 0.0
    """Of the tokens drawn, the sum of log Z."""
    status: Status | None = None
    error: EngineError | None = None
    started: float | None = None
    first_token: float | None = None
    ended: float | None = None
    fill_s: float = 0.0
    exposed_s: float = 0.0
    device_s: float = 0.0
    text_s: float = 0.0

    @property
    def masked(self) -> bool:
        """Whether no mask is being made for it."""
        return self.mask is None or self.mask.done()

    def pursue(self, work: Callable[[], None], *, ends: bool = False) -> None:
        """Do what may need the judge: then the row has a `question`, and does it once more with the answer."""
        try:
            work()
        except Undecided as asked:
            self.question = Question(asked.texts, asked.calls, work, self.status, ends)
            self.status = None

    def fail(self, error: BaseException) -> None:
        """It ends here, as `error`; what is no typed error becomes one."""
        self.status, self.error = "error", typed(error, self.job)

    def guard(self, work: Callable[[], None]) -> None:
        """What goes wrong with one row is that row's status; the others go on."""
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - a row fails alone, whatever went wrong in it
            self.fail(error)

    def abandon_steps(self) -> None:
        """What has been launched for it means nothing."""
        self.epoch, self.flying, self.hold, self.source = self.epoch + 1, 0, False, None

    def retract(self) -> None:
        """What has been launched behind the known tokens is launched again when its turn comes."""
        self.cached = min(self.cached, self.length - 1)  # fewer where it was put back
        self.abandon_steps()

    @property
    def closing(self) -> bool:
        """Whether its ending is looked for, or being written."""
        return bool(self.ending) or self.sought is not None

    @property
    def length(self) -> int:
        """Prompt and output tokens."""
        return len(self.job.prompt) + len(self.output)

    @property
    def asks(self) -> bool:
        """Whether text may be taken back: the judge or a check is asked in the middle of it, or it is one of
        several that may be drawn."""
        asked = self.matcher is not None and (self.matcher.judge is not None or self.checks is not None)
        return asked or self.conditional is not None

    @property
    def in_turns(self) -> bool:
        """Whether the host must have seen a token before the step behind it is launched."""
        if self.conditional is None or self.matcher is None or self.matcher.strings is not None:
            return self.asks
        return not self.conditional.ahead

    @property
    def remaining(self) -> int:
        """Completion tokens still allowed."""
        return self.budget - len(self.output)

    def pending(self, limit: int) -> list[int]:
        """At most `limit` of the tokens that are not in the cache yet."""
        prompt, start = self.job.prompt, self.cached
        if start >= len(prompt):
            return self.output[start - len(prompt) : start - len(prompt) + limit]
        return (prompt[start : start + limit] + self.output[: max(0, start + limit - len(prompt))])[:limit]

    @property
    def missing(self) -> int:
        """Tokens that the cache lacks, one in flight included."""
        return self.length + self.flying - self.cached


def typed(error: BaseException, job: Job) -> EngineError:
    """The error as callers may meet it: an EngineFailure that names the request, if it is not typed already."""
    return error if isinstance(error, EngineError) else EngineFailure(f"request {job.request.id}: {error!r}")


def prompt_sha256(prompt: list[int]) -> str:
    """sha256 of the prompt's token ids as little-endian uint32."""
    return hashlib.sha256(struct.pack(f"<{len(prompt)}I", *prompt)).hexdigest()
