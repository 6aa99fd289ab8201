"""A matcher that listens to the judge: endings that pass, and the way back where a value has failed."""

from __future__ import annotations

from collections.abc import Sequence

from engine.grammar.matching.backtrack import retreat
from engine.grammar.matching.other_endings import best_ending
from engine.grammar.matching.token_matcher import TokenMatcher


class Matcher(TokenMatcher):
    """One request's matcher."""

    def ending(self, limit: int) -> tuple[int, ...] | None:
        """Tokens that end the document legally, stop token last; None when there are none within `limit` tokens.

        One that passes the validator is preferred, if a few tries find one; a banned token begins it only where nothing
        else does. Below a millisecond from the rules, 0.1-75 ms where it must be searched.
        """
        if self.terminated:
            return ()
        ending = self.shortest_ending(limit)
        if not 0 < len(ending) <= limit:
            return None
        best = best_ending(self, ending, limit, self.passes)
        if best[0] in self.banned:
            del self._bans[len(self._tokens)]  # the document ends here, and the judge of the whole text decides
        return best

    def retreat(self) -> int | None:
        """Judge the values that the last token closed; on failure go back into the value and ban what it began with.

        Returns how many tokens were taken back; None when nothing failed for good, or nothing else could be written."""
        return retreat(self)

    def passes(self, ending: Sequence[int] = ()) -> bool:
        """Whether the text with this ending satisfies the judge and the checks. Raises Undecided as they do."""
        text = self.text([*self._tokens, *ending])
        valid = self.judge is None or self.judge(text).valid
        return valid and (self.checks is None or self.checks.judgement(text).valid)
