"""What of a prompt is in the KV cache already: a stored prefix, or the prompt of a sample's own siblings.

Both hold blocks of the cache that rows could use; they are let go where rows need them. Used by the decode thread.
"""

from __future__ import annotations

from engine.decode.requests.job import Job, Sample
from engine.decode.scheduling.prefix import MINIMUM, PrefixCache
from engine.interfaces import Runner, SavedPrefix


class Prompts:
    """Stored prefixes of up to `max_bytes`, and the prompts of jobs in flight that have several samples; 0 bytes switch
    both off."""

    def __init__(self, runner: Runner, max_bytes: int) -> None:
        self._runner = runner
        self._shares = max_bytes > 0
        self._forks: dict[Job, SavedPrefix] = {}
        self._asked: tuple[Sample, int] | None = None
        """Who waits for blocks is asked about at every step."""
        self.stored = PrefixCache(max_bytes)

    def begin(self, sample: Sample) -> None:
        """The sample has a slot: what is known of its prompt need not be fed."""
        found = self._find(sample)
        if found is not None:
            prefix, length = found
            self._runner.load_prefix(sample.slot or 0, prefix, length)
            sample.cached = length

    def known(self, sample: Sample) -> int:
        """Tokens of the sample that it would not have to be fed."""
        if self._asked is None or self._asked[0] is not sample:
            found = self._find(sample)
            self._asked = (sample, 0 if found is None else found[1])
        return self._asked[1]

    def _find(self, sample: Sample) -> tuple[SavedPrefix, int] | None:
        job = sample.job
        if job in self._forks:
            return self._forks[job], len(job.prompt) - 1
        return self.stored.find(job.salt, job.prompt)

    def keep(self, sample: Sample) -> None:
        """The sample's prompt is in the cache: keep it for its siblings, whatever else is stored, and for others."""
        job, self._asked = sample.job, None
        wanted, forks = self.stored.wants(job.salt, job.prompt), len(job.samples) > 1 and len(job.prompt) >= MINIMUM
        if not self._shares or not (wanted or forks):
            return
        prefix = self._runner.save_prefix(sample.slot or 0, len(job.prompt))
        if forks:
            self._forks[job] = prefix.again() if wanted else prefix
        if wanted:
            self.stored.store(job.salt, job.prompt, prefix)

    def forget(self) -> bool:
        """Let one prefix go, the least recently used one first, then one that siblings wait for; False where there is
        none."""
        self._asked = None
        if self.stored.forget():
            return True
        for job in self._forks:
            self.drop(job)
            return True
        return False

    def drop(self, job: Job) -> None:
        """The job is over."""
        self._asked = None
        prefix = self._forks.pop(job, None)
        if prefix is not None:
            prefix.drop()
