"""Back to where a text went wrong. Knows the matcher and the judge of values; not sampling or rows."""

from __future__ import annotations

from collections.abc import Callable

from engine.grammar.masks import bitmask
from engine.grammar.matching.postcheck import CLOSERS, VALUE_ENDS, failing_start
from engine.grammar.matching.token_matcher import TokenMatcher


def retreat(matcher: TokenMatcher) -> int | None:
    """See `Matcher.retreat`.

    The ban falls on the first token of the value beside which another was legal: a bracket that had to come stays. Only
    grammars with a `checked` keyword pay for judging: about 0.1 ms and 10 microseconds a kilobyte, at tokens that can
    close a value; and requests with checks for telling which values have closed.
    """
    start = _wrong_from(matcher)
    if start is None:
        return None
    if matcher.strings is not None:
        matcher.strings.renew()
    tokens = matcher.token_ids
    taken = tokens[_token_at(matcher, start) :]
    matcher.rollback(len(taken), forget=False)  # the tokens that stay come again below, with what was banned after them
    for kept, token in enumerate(taken):
        if _offers_another(matcher, token):
            matcher.ban(_row_of(matcher, token))
            return len(taken) - kept
        if not matcher.accept(token, legal=True):
            return len(taken) - kept
    if matcher.checks is not None:
        matcher.checks.leave()
    return None


def go_back(matcher: TokenMatcher) -> int | None:
    """See `Matcher.go_back`."""
    dead = None if matcher.strings is None else matcher.strings.settle()
    if matcher.strings is None or dead is None:
        return None
    count = matcher.tokens - dead.tokens
    if not matcher.strings.spend(count):
        return _give_up(matcher)
    matcher.rollback(count)
    rest = matcher.strings.completion(dead.prefix)
    if rest is None or not _demand_end(matcher, rest):
        beginnings = matcher.strings.dead_beginnings(dead.prefix, escapes=matcher.restricted)
        matcher.ban(matcher.grammar.vocabulary.beginning_with_any(beginnings))
    return count


def _demand_end(matcher: TokenMatcher, rest: bytes) -> bool:
    """Let the open string go on with this and end; False where it cannot."""
    fork, cut = matcher.fork(), matcher.grammar.vocabulary.segmenter.cut
    fork.lift_bans(matcher.tokens)
    tokens, end = cut(rest), cut(b'"')
    if tokens is None or end is None or not all(fork.accept(token) for token in (*tokens, *end)):
        return False
    matcher.demand(tokens, matcher.grammar.vocabulary.beginning_with(b'"'))
    return True


def unstick(matcher: TokenMatcher) -> int | None:
    """See `Matcher.unstick`."""
    strings = matcher.strings
    if strings is None or strings.settle() is not None or not matcher.restricted:
        return None
    if strings.open is None:
        matcher.lift_bans(matcher.tokens)
        strings.let_go()
        return 0
    if strings.open == matcher.tokens - 1 or _only_ends(matcher) or not strings.spend(1):
        return _give_up(matcher) or 0
    last = matcher.token_ids[-1]
    matcher.rollback(1)
    matcher.ban(_row_of(matcher, last))
    return 1


def keep_whole(matcher: TokenMatcher, closes: Callable[[int], bool]) -> int | None:
    """See `Matcher.keep_whole`."""
    strings, last = matcher.strings, matcher.tokens
    if strings is None:
        return None
    dead = strings.settle()
    matcher.rollback(0 if dead is None else last - dead.tokens)
    while (first := strings.open) is not None:
        whole = strings.last_whole
        matcher.rollback(matcher.tokens - (first if whole is None else whole))
        if whole is None:
            continue  # what it was opened with may have gone on with another
        if closes(last - matcher.tokens):
            break
        matcher.rollback(matcher.tokens - first)
    return last - matcher.tokens or None


def _give_up(matcher: TokenMatcher) -> int | None:
    """End the open string where it was whole last. Where it never was, it is followed no more: the judge will see it,
    and what was banned in it is legal again. How many tokens were taken back, None where none were."""
    strings = matcher.strings
    if strings is None:
        return None
    end = strings.last_whole
    if end is None:
        matcher.lift_bans(strings.let_go() + 1)
        return go_back(matcher)
    count = matcher.tokens - end
    matcher.rollback(count)
    matcher.demand((), matcher.grammar.vocabulary.beginning_with(b'"'))
    return count


def _only_ends(matcher: TokenMatcher) -> bool:
    """Whether nothing but the end of the open string was ever legal here: it has its longest length."""
    return bitmask.is_empty(matcher.unbanned() & ~matcher.grammar.vocabulary.beginning_with(b'"'))


def _row_of(matcher: TokenMatcher, token_id: int) -> bitmask.Row:
    return bitmask.from_ids([token_id], matcher.grammar.vocabulary.size)


def _wrong_from(matcher: TokenMatcher) -> int | None:
    """Offset of the value that fails for good, as of the last token; None too where no ending is found quickly."""
    if matcher.within_string:
        return None
    judge, tokens, last = matcher.judge, matcher.token_ids, matcher.last_text
    if matcher.checks is not None and (matcher.terminated or not VALUE_ENDS.isdisjoint(last)):
        wrong = matcher.checks.failing_start(matcher.text(tokens), ended=matcher.terminated)
        if wrong is not None:
            return wrong
    if judge is None or not tokens or (not matcher.terminated and CLOSERS.isdisjoint(last)):
        return None
    ending = matcher.quick_ending()
    if ending is None:
        return None
    written, rest = matcher.text(tokens), matcher.text(matcher.filled(ending))
    judgement = judge(written + rest)
    if not judgement.valid:
        return failing_start(judgement, written, rest)
    if matcher.strings is not None:
        matcher.strings.judged()
    return None


def _offers_another(matcher: TokenMatcher, token_id: int) -> bool:
    """Whether anything else than this token is legal here."""
    mask = bitmask.cleared(1, matcher.grammar.vocabulary.size)
    return matcher.fill(mask, 0) - bitmask.legal(mask[0], token_id) > 0


def _token_at(matcher: TokenMatcher, offset: int) -> int:
    """Index of the token that writes the byte at `offset`."""
    position = 0
    tokens = matcher.token_ids
    for index, token in enumerate(tokens):
        position += len(matcher.text((token,)))
        if position > offset:
            return index
    return len(tokens) - 1
