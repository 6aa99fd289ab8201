"""Sequential Monte Carlo over the rows of one request: particles step together, are weighted and resampled.

Each particle draws its tokens among the legal ones, and its weight is the product of their shares Z_t of the model.
Where the weights have become uneven particles are copied by their weights: tables of cache blocks by reference,
matchers by forking, and nothing is computed again: of a step that is in flight by then a copy has its parent's logits.
A particle without a legal token, out of budget, or whose text fails a check, has weight 0.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from engine.decode.particles.seeds import coin
from engine.decode.particles.watch import Watch
from engine.decode.particles.weights import DEAD, ancestors, chosen, effective, log_mean
from engine.decode.requests.job import Drawn, Findings, Job, Sample
from engine.interfaces import Runner


class Population:
    """The particles of a job, which are its samples until `n` of them are drawn. Used by the decode thread."""

    ahead = True

    def __init__(self, job: Job, runner: Runner) -> None:
        params = job.request.sampling
        self._job, self._runner = job, runner
        self._size, self._n = params.particles, params.n
        self._threshold = params.ess * params.particles
        self._logs = [0.0] * self._size  # since the last resampling
        self._ended = [False] * self._size
        self._behind = self._size  # have not come as far as the others
        self._resamplings, self._log_evidence = 0, 0.0  # up to the last resampling
        self._watch = Watch(self._size)
        self._findings: list[Findings] = []
        self._dissolved = False

    def bias(self) -> Mapping[int, float] | None:
        """A particle draws as the mask has it."""
        return None

    def findings(self, sample: Sample) -> Findings:
        if not self._findings:  # it was ended from outside
            return Findings(None, DEAD, effective(self._logs), self._resamplings)
        return self._findings[sample.index]

    def take(self, sample: Sample, drawn: Drawn) -> None:
        """Take the token; the last particle that has come so far lets all go on."""
        matcher, index = sample.matcher, sample.index
        if matcher is None or drawn.legal == 0:
            self._end(sample, DEAD)
        else:
            if not matcher.accept(drawn.token, legal=True):
                raise matcher.fail(token_id=drawn.token)
            sample.output.append(drawn.token)
            self._logs[index] += drawn.log_mass
            self._watch.chose = self._watch.chose or drawn.legal > 1
            if matcher.terminated:
                self._end(sample)
            elif sample.remaining == 0 or matcher.doomed:
                self._end(sample, DEAD)
        sample.pursue(lambda: self._arrive(sample))

    def _end(self, sample: Sample, log: float | None = None) -> None:
        sample.abandon_steps()
        self._ended[sample.index] = True
        if log is not None:
            self._logs[sample.index] = log

    def _arrive(self, sample: Sample) -> None:
        """Raises Undecided where the judge or a check must be asked about a whole text first."""
        matcher = sample.matcher
        if matcher is not None and matcher.terminated:
            if not matcher.passes():
                self._logs[sample.index] = DEAD
            sample.opinions.forget()
        sample.waits = True
        self._behind -= 1
        if not self._behind:
            self._go_on()

    def _go_on(self) -> None:
        """All particles have come as far: weigh them."""
        particles = self._job.samples
        self._watch.see(effective(self._logs), self._log_evidence + log_mean(self._logs))
        if all(self._ended) or max(self._logs) == DEAD:
            self._conclude()
            return
        if effective(self._logs) < self._threshold:
            self._resample()
        for particle in particles:
            particle.waits = self._ended[particle.index]
        going = [particle for particle in particles if not particle.waits]
        self._behind = len(going)
        if not all(particle.flying for particle in going):  # who is a step ahead would be so for ever
            for particle in going:
                particle.retract()
        if all(self._ended):
            self._conclude()

    def _resample(self) -> None:
        """Copy particles by their weights, which are equal then."""
        particles = self._job.samples
        places = ancestors(self._logs, coin(self._job.seed, self._resamplings))
        self._log_evidence += log_mean(self._logs)
        self._logs = [0.0] * self._size
        self._resamplings += 1
        children: dict[int, list[Sample]] = defaultdict(list)
        for place, source in enumerate(places):
            if place != source:
                children[source].append(particles[place])
        for parent, copies in children.items():
            self._copy(particles[parent], copies)

    def _copy(self, parent: Sample, children: Sequence[Sample]) -> None:
        ended = self._ended[parent.index]
        for child in children:
            _become(child, parent)
            self._ended[child.index] = ended
            if ended or not (child.flying and parent.flying):
                child.abandon_steps()
            if child.matcher is not None and not ended:
                child.matcher = child.matcher.fork()
                child.matcher.judge = child.opinions if child.matcher.judge is not None else None
                child.matcher.checks = child.checks
        if not ended:
            self._share_cache(parent, children)

    def _share_cache(self, parent: Sample, children: Sequence[Sample]) -> None:
        """With the entry of a step in flight, for a child that has part in it."""
        for child in children:
            child.cached = 0
        seated = [child for child in children if child.slot is not None]
        if parent.slot is None or not (seated and parent.cached):
            return
        prefix = self._runner.save_prefix(parent.slot, parent.cached)
        try:
            for child in seated:
                child.cached = parent.cached - (0 if child.flying else parent.flying)
                child.source = parent if child.flying else None
                self._runner.load_prefix(child.slot or 0, prefix, child.cached)
        finally:
            prefix.drop()

    def _conclude(self) -> None:
        """Draw the samples among the particles, all of which have ended."""
        particles, size = self._job.samples, effective(self._logs)
        if not size:
            self._findings = [Findings(None, DEAD, 0.0, self._resamplings)] * self._n
        else:
            evidence = self._log_evidence + log_mean(self._logs)
            warnings = self._watch.warnings(self._n)
            sources = chosen(self._logs, self._n, coin(self._job.seed, self._resamplings))
            for sample, source in zip(particles, [replace(particles[source]) for source in sources], strict=False):
                _become(sample, source)
                weight = self._log_evidence + self._logs[source.index]
                self._findings.append(Findings(evidence, weight, size, self._resamplings, warnings))
        for sample in particles:
            sample.status = "complete" if size else "dead_end"

    def dissolve(self, sample: Sample) -> tuple[list[Sample], list[Sample]]:
        """What ends one particle from outside ends all."""
        particles = self._job.samples
        if self._dissolved:
            return [], [sample] if sample in particles else []
        self._dissolved = True
        seconds = sum(particle.device_s for particle in particles) / self._n
        for particle in particles:
            particle.device_s = seconds
            if particle.status is None or sample.error is not None:
                particle.status, particle.error = sample.status, sample.error
        self._job.samples = particles[: self._n]
        return particles[self._n :], self._job.samples


def _become(sample: Sample, source: Sample) -> None:
    """Take over the text of another, and what is known of it."""
    sample.output, sample.logprobs, sample.log_mass = list(source.output), list(source.logprobs), source.log_mass
    sample.matcher, sample.mask, sample.made_at = source.matcher, None, -1
