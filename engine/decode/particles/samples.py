"""The samples of a job, by its method: which random numbers each has, and who draws its text."""

from __future__ import annotations

from engine.config import Limits
from engine.decode.particles.population import Population
from engine.decode.particles.proposals import Proposals
from engine.decode.particles.seeds import derived
from engine.decode.requests.detokenizer import Detokenizer
from engine.decode.requests.job import Job, Sample
from engine.interfaces import Runner


def samples_of(job: Job, budget: int, runner: Runner, limits: Limits) -> list[Sample]:
    """As many as the method needs; of `smc` the particles, of which `n` are left when all have ended."""
    params = job.request.sampling
    if params.method == "smc":
        population, seeds = Population(job, runner), [derived(job.seed, index) for index in range(params.particles)]
        return [_sample(job, index, seed, budget, population) for index, seed in enumerate(seeds)]
    if params.method == "rejection":
        seeds = [derived(job.seed, index) for index in range(params.n)]
        most = limits.proposed_tokens
        return [_sample(job, i, derived(seed, 0), budget, Proposals(seed, most)) for i, seed in enumerate(seeds)]
    return [Sample(job, index, job.seed + index, budget, Detokenizer(params.stop)) for index in range(params.n)]


def _sample(job: Job, index: int, seed: int, budget: int, conditional: Population | Proposals) -> Sample:
    return Sample(job, index, seed, budget, Detokenizer(), conditional=conditional)
