"""A matcher that listens to the judge: endings that pass, and the way back where a value has failed."""

from __future__ import annotations

from collections.abc import Sequence

from engine.grammar.matching.backtrack import go_back, keep_whole, retreat, unstick
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
        if self.strings is not None:
            ending = self._with_whole_strings(ending, limit) or ending
        if not 0 < len(ending) <= limit:
            return None
        best = best_ending(self, ending, limit, self.passes)
        if self.bans(best[0]):
            self.lift_bans(self.tokens)  # the document ends here, and the judge of the whole text decides
        return best

    def _with_whole_strings(self, ending: tuple[int, ...], limit: int) -> tuple[int, ...] | None:
        """The ending with followed strings that are valid, where that is legal and fits."""
        if len(other := self.filled(ending)) > limit:
            other = self.filled(self.shortest_ending(0))
        if len(other) > limit or other == ending:
            return None
        fork = self.fork()
        return other if all(fork.accept(token) for token in other) else None

    def _closes(self, limit: int) -> bool:
        """Whether the open string is valid in an ending of so many tokens; where that takes long to tell, it is."""
        ending = self.quick_ending(limit)
        if self.strings is None or self.strings.open is None or ending is None:
            return True
        whole = self.strings.closes(self.text(ending))
        return whole and (self.filled(ending) == ending or self._with_whole_strings(ending, limit) is not None)

    def retreat(self) -> int | None:
        """Judge the values that the last token closed; on failure go back into the value and ban what it began with.

        Returns how many tokens were taken back; None when nothing failed for good, or nothing else could be written."""
        return retreat(self)

    @property
    def doomed(self) -> bool:
        """Whether a followed string cannot become valid any more."""
        return self.strings is not None and self.strings.settle() is not None

    def go_back(self) -> int | None:
        """Follow the strings in which the last tokens have written. Where one cannot become valid any more, go back to
        the token that made it so, and ban it. Returns how many tokens were taken back; None when there were none."""
        return go_back(self)

    def unstick(self) -> int | None:
        """The same where nothing is legal in such a string, by what was banned: the token before is banned too, or
        the string is followed no more, and 0 tokens are taken back. None where it is another dead end."""
        return unstick(self)

    def keep_whole(self, limit: int) -> int | None:
        """Go back to the last place at which the open followed string is valid and can end, or else before it; `limit`
        tokens are left from here. How many tokens were taken back."""
        return keep_whole(self, lambda taken: self._closes(limit + taken))

    def passes(self, ending: Sequence[int] = ()) -> bool:
        """Whether the text with this ending satisfies the judge and the checks. Raises Undecided as they do."""
        text = self.text([*self._tokens, *ending])
        valid = self.judge is None or self.judge(text).valid
        return valid and (self.checks is None or self.checks.judgement(text).valid)
