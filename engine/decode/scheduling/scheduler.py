"""Who runs in the next step and who gives way: rows are shared between owners, decoding rows go before prefill chunks.

Pure Python, no clock.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count

from engine.decode.requests.job import Job, Sample
from engine.decode.scheduling.prompts import Prompts
from engine.interfaces import FROM_DEVICE, CacheBlocks

_TURN, _LONGEST_TURN = 4, 128
"""Steps that a row may stay where owners outnumber slots: twice as many each time it has been put back, so that a long
text is prefilled again a few times and not at every turn."""


@dataclass(frozen=True, slots=True)
class Planned:
    """One row of the next step: `tokens` to feed, the one in flight too; `last` when logits are wanted after."""

    sample: Sample
    tokens: list[int]
    last: bool


class Scheduler:
    """Fixed slots, one queue a job. `prefill_chunk` bounds the prompt tokens of a step, so that decoding rows never
    stall; a step without any of them feeds up to `undisturbed` such chunks.

    `blocks` may be too few for all slots at full length: `prompts` that are only stored are let go first, then rows are
    put back. One row alone always has room.
    """

    def __init__(
        self, *, slots: int, prefill_chunk: int, undisturbed: int = 1, blocks: CacheBlocks, prompts: Prompts
    ) -> None:
        self._blocks, self._prompts = blocks, prompts
        self._free = list(range(slots - 1, -1, -1))
        self._chunk, self._longest = prefill_chunk, undisturbed * prefill_chunk
        self._waiting: dict[Job, deque[Sample]] = {}
        self._running: list[Sample] = []  # in the order in which they got their slots
        self._turns = count(1)
        self._served: dict[str | None, int] = {}  # by owner, the turn in which it last got a slot
        self._steps = 0
        self.retired: list[int] = []
        """Slots that nobody gets: cleaning them failed."""

    @property
    def running(self) -> list[Sample]:
        return self._running

    @property
    def starving(self) -> list[Sample]:
        """Those who wait, where every slot is retired."""
        if self._running or self._free:
            return []
        return [sample for samples in self._waiting.values() for sample in samples]

    def __bool__(self) -> bool:
        return bool(self._waiting or self._running)

    def add(self, *samples: Sample) -> None:
        """These wait for slots."""
        for sample in samples:
            self._waiting.setdefault(sample.job, deque()).append(sample)

    def admit(self) -> list[Sample]:
        """Give slots to those who wait; returns the newcomers. Where none is free, or too few blocks are, others may
        have to make room."""
        admitted: list[Sample] = []
        held = False  # who is next begins with several rows, for which slots become free meanwhile
        while wanting := self._wanting(begun=held):
            job = min(wanting, key=self._claim())
            sample = wanting[job]
            if not self._has_slots(job) or not self._has_blocks(sample):
                if job.together > 1 and not job.begun:
                    held = True
                elif not self._make_room(job):
                    break
                continue
            self._waiting[job].remove(sample)
            if not self._waiting[job]:
                del self._waiting[job]
            sample.slot, sample.since = self._free.pop(), self._steps
            self._served[job.owner] = next(self._turns)
            self._running.append(sample)
            admitted.append(sample)
        return admitted

    def _wanting(self, *, begun: bool) -> dict[Job, Sample]:
        """By job, the first sample that can use a slot; `begun`: of jobs whose rows go on together, and some have."""
        return {
            job: sample
            for job, samples in self._waiting.items()
            if (sample := _first(samples)) and not (begun and (job.together == 1 or not job.begun))
        }

    def _has_slots(self, job: Job) -> bool:
        """Whether a row of this job can have a slot. Rows that can only go on together begin where all have one, and
        nobody else begins with those that they still need, while any of them runs."""
        if job.together > 1 and (job.begun or job.compiling):
            return job.begun and bool(self._free)
        others = {row.job for row in self._running if row.job.together > 1 and row.job is not job}
        promised = sum(other.lacking for other in others)
        return len(self._free) - promised >= min(job.together, len(self._free) + len(self._running))

    def _claim(self) -> Callable[[Job], tuple[float, ...]]:
        """Who waits is served by the rows that its owner holds, in turn where these are equal; then by the job's."""
        owners, jobs = Counter(s.job.owner for s in self._running), Counter(s.job for s in self._running)
        served = self._served.get
        return lambda job: (job.compiling, owners[job.owner], served(job.owner, 0), jobs[job], job.submitted)

    def _has_blocks(self, sample: Sample) -> bool:
        """Whether there are blocks for all that is known of the sample, beside those that the rows which run will need
        next: the rest of their prompts, and one block more each."""
        if (1 + len(self._running)) * self._blocks.most <= self._blocks.free:
            return True  # whatever they need
        known = self._prompts.known
        while self._lacking(sample) > self._blocks.free and self._lacking(sample, known) > self._blocks.free:
            if not self._prompts.forget():
                return False
        return True

    def _lacking(self, newcomer: Sample, shared: Callable[[Sample], int] = lambda _: 0) -> int:
        """Blocks that the newcomer and all running rows need and do not have; `shared` tokens need none."""
        blocks, lacking = self._blocks, 0
        for row in (newcomer, *self._running):
            more = 1 if row is newcomer else blocks.size
            wanted = min(blocks.most, -(-(row.length + row.flying + more) // blocks.size))
            has = 0 if row.slot is None else len(blocks.table(row.slot))
            lacking += max(0, wanted - (has or shared(row) // blocks.size))
        return lacking

    def _make_room(self, job: Job) -> bool:
        """Put a row back for this job: one that cannot go on by itself, or the newest of who holds more than its share.

        A share is what all have when no swap of a row would make it more even. Owners without any row take turns.
        """
        if job.compiling or not self._running:
            return False
        rows = Counter(sample.job.owner for sample in self._running)
        most, own = max(rows.values()), rows[job.owner]
        newest = {s.job.owner: s for s in self._running if rows[s.job.owner] == most}.values()
        victim = min(newest, key=lambda sample: sample.since)
        turn = min(_TURN << victim.put_back, _LONGEST_TURN)
        idle = self._idle()
        if idle:
            victim = idle[-1]
        elif most <= own or (most == own + 1 and (own or self._steps - victim.since < turn)):
            return False
        self._put_back(victim)
        return True

    def _put_back(self, sample: Sample) -> None:
        """Its tokens are kept, and fed again when its turn comes; what is in flight for it is void."""
        self._vacate(sample)
        sample.slot, sample.cached = None, 0
        sample.abandon_steps()
        sample.put_back += 1
        self._waiting.setdefault(sample.job, deque()).appendleft(sample)

    def plan(self, ready: Callable[[Sample], bool]) -> list[Planned]:
        """Rows of the next step, with blocks for what they feed. A sample whose grammar is not `ready` is fed all but
        its last token, then waits. Where blocks are short, the newest row of who holds most is put back."""
        self._steps += 1
        rows = self._rows(ready)
        while not all(self._reserve(row.sample, len(row.tokens)) for row in rows):
            self._put_back(self._newest_of_most())
            rows = self._rows(ready)
        return rows

    def extend(self, sample: Sample, count: int) -> bool:
        """Whether there are blocks for feeding so many tokens of a planned row, without anybody giving way; they are
        the row's then."""
        return self._blocks.reserve(sample.slot or 0, sample.cached, sample.cached + count)

    def _reserve(self, sample: Sample, count: int) -> bool:
        while not (done := self.extend(sample, count)) and self._prompts.forget():
            pass
        return done

    def _newest_of_most(self) -> Sample:
        """One that cannot go on by itself, or the newest row of the owner who has the most."""
        rows = Counter(sample.job.owner for sample in self._running)
        most = max(rows.values())
        return (self._idle() or [sample for sample in self._running if rows[sample.job.owner] == most])[-1]

    def _idle(self) -> list[Sample]:
        """Those that wait for their grammar or for siblings."""
        return [sample for sample in self._running if sample.job.compiling or sample.waits]

    def _rows(self, ready: Callable[[Sample], bool]) -> list[Planned]:
        decoding = [s for s in self._running if s.missing == 1 and ready(s) and not (s.flying and s.hold)]
        rows = [Planned(sample, [FROM_DEVICE] if sample.flying else sample.pending(1), True) for sample in decoding]
        return rows + [
            Planned(sample, sample.pending(fed), fed == sample.missing)
            for sample, fed in self._prefills(ready, self._chunk if decoding else self._longest)
        ]

    def _prefills(self, ready: Callable[[Sample], bool], room: int) -> Iterator[tuple[Sample, int]]:
        """How much of which prompt is fed: owners have equal parts of `room`, and who needs less leaves the rest."""
        wanted: dict[str | None, list[tuple[Sample, int]]] = {}
        for sample in self._running:
            missing = sample.missing
            if missing > 1:
                most = missing if ready(sample) else missing - 1
                wanted.setdefault(sample.job.owner, []).append((sample, most))
        shares = sorted(wanted.values(), key=lambda prompts: sum(most for _, most in prompts))
        for others, prompts in zip(range(len(shares) - 1, -1, -1), shares, strict=True):
            part = room // (others + 1)
            for sample, most in prompts:
                if fed := min(part, most):
                    yield sample, fed
                part, room = part - fed, room - fed

    def release(self, sample: Sample) -> None:
        """The sample has ended: its slot is free for the next one."""
        job = sample.job
        if sample in self._running:
            self._vacate(sample)
        elif sample in self._waiting.get(job, ()):
            self._waiting[job].remove(sample)
            if not self._waiting[job]:
                del self._waiting[job]
        if all(other.owner != job.owner for other in (*self._waiting, *(s.job for s in self._running))):
            self._served.pop(job.owner, None)

    def _vacate(self, sample: Sample) -> None:
        self._running.remove(sample)
        if sample.slot is not None:
            self._blocks.clear(sample.slot)
            self._free.append(sample.slot)

    def retire(self, slot: int) -> None:
        """Give this free slot to nobody until it is restored."""
        self._free.remove(slot)
        self.retired.append(slot)

    def restore(self, slot: int) -> None:
        self.retired.remove(slot)
        self._free.append(slot)


def _first(samples: deque[Sample]) -> Sample | None:
    """The first of those that can use a slot."""
    return next((sample for sample in samples if not sample.waits), None)
