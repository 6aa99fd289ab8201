"""Exact draws by rejection: propose texts until one is valid, never again what is known to be dead.

A proposal draws each token by the model's probability times what is `alive` behind it. Where it comes to a beginning
that no proposal has seen, the mask tells which part Z of the probability is legal: it goes on there with probability Z
among the legal tokens, else it is rejected. Along a valid text everything but the model's own probability cancels, so
that each valid text is proposed and accepted in proportion to it, whatever has been learnt.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from engine.decode.particles.dead_prefixes import Prefix
from engine.decode.particles.seeds import coin, derived
from engine.decode.particles.weights import DEAD
from engine.decode.requests.job import Drawn, Findings, Sample

_MOST_PREFIXES = 200_000
"""That are remembered, some 100 bytes each."""


class Proposals:
    """Of one sample. Used by the decode thread."""

    ahead = False

    def __init__(self, seed: int, most_tokens: int) -> None:
        """After `most_tokens` none of which led to a valid text it is a dead end."""
        self._seed, self._left = seed, most_tokens
        self._root = Prefix()
        self._path = [self._root]
        self._prefixes = 0
        self._made = 1
        self._trials = 1.0  # proposals, each divided by what was alive when it began

    def bias(self) -> Mapping[int, float] | None:
        shares = self._path[-1].shares()
        return {token: math.log(share) if share else DEAD for token, share in shares.items()}

    def findings(self, sample: Sample) -> Findings:
        accepted = sample.status not in ("dead_end", "timeout", "cancelled", "error")
        return Findings(-math.log(self._trials) if accepted else None, 0.0, 1.0)

    def dissolve(self, sample: Sample) -> tuple[list[Sample], list[Sample]]:
        """Each sample of the request is drawn for itself."""
        return [], [sample]

    def take(self, sample: Sample, drawn: Drawn) -> None:
        """Take the token, or begin again."""
        matcher, here = sample.matcher, self._path[-1]
        self._left -= 1
        if not here.known:
            here.learn(math.exp(drawn.log_mass), drawn.legal)
            if coin(sample.seed, len(sample.output)) >= here.alive:
                self._reject(sample)
                return
        if matcher is None or not matcher.accept(drawn.token, legal=True):
            raise ValueError("a row without a grammar") if matcher is None else matcher.fail(token_id=drawn.token)
        sample.output.append(drawn.token)
        self._path.append(self._behind(here, drawn))
        if matcher.terminated:
            sample.pursue(lambda: self._judge(sample))
        elif sample.remaining == 0 or matcher.doomed:
            self._kill(sample)

    def _behind(self, here: Prefix, drawn: Drawn) -> Prefix:
        """The beginning with this token."""
        found = here.below.get(drawn.token)
        if found is not None:
            return found[1]
        prefix = Prefix()
        if self._prefixes < _MOST_PREFIXES:
            self._prefixes += 1
            here.below[drawn.token] = math.exp(drawn.log_probability), prefix
        return prefix

    def _judge(self, sample: Sample) -> None:
        """Raises Undecided where the judge or a check must be asked first."""
        valid = sample.matcher is None or sample.matcher.passes()
        sample.opinions.forget()
        if valid:
            sample.status = "complete"
        else:
            self._kill(sample)

    def _kill(self, sample: Sample) -> None:
        self._path[-1].alive = 0.0
        self._reject(sample)

    def _reject(self, sample: Sample) -> None:
        """Keep what was learnt, and begin again."""
        for prefix in reversed(self._path):
            prefix.weigh()
        if self._root.alive <= 0.0 or self._left <= 0:
            sample.status = "dead_end"
            return
        self._path = [self._root]
        self._trials += 1.0 / self._root.alive
        sample.seed = derived(self._seed, self._made)
        self._made += 1
        if sample.matcher is not None:
            sample.matcher.rollback(len(sample.output))
        sample.output.clear()
        sample.log_mass = 0.0
        sample.retract()
