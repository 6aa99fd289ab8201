"""What one token does to one row: accept, keep or close, emit. Sets statuses; knows no batch and no device.

A token is kept only if the shortest ending after it still fits the budget. Otherwise it is taken back and that ending,
which fitted before, is emitted: nothing is ever cut.
"""

from __future__ import annotations

import time
from functools import partial

from engine.decode.requests.detokenizer import Detokenizer
from engine.decode.requests.job import Sample
from engine.interfaces import Sampled, Tokenizer

AT_ONCE = 10
"""Pieces, of about a millisecond, in which endings are looked for and written in one turn: what takes longer goes on in
the next ones."""


def advance(sample: Sample, token: int, tokenizer: Tokenizer, sampled: Sampled, index: int) -> bool:
    """Take one sampled token (row `index` of `sampled`); False when it was dropped: the row must be closed instead.

    Raises GrammarDesync when the matcher refuses a token whose bit was set, though the text can go on.
    """
    matcher = sample.matcher
    if matcher is None:
        _take_free(sample, token, tokenizer)
    else:
        if not matcher.accept(token, legal=True):
            if matcher.fits(sample.remaining):
                raise matcher.fail(token_id=token)
            return False
        if not matcher.fits(sample.remaining - 1):
            matcher.rollback(1)
            return False
        _take(sample, token, tokenizer)
        if matcher.terminated:
            sample.status = "complete"
    note_logprobs(sample, token, tokenizer, sampled, index)
    return True


def steer(sample: Sample, tokenizer: Tokenizer, *, stuck: bool = False) -> bool:
    """Follow the strings that are written in a language, and go back where one cannot become valid, or is `stuck`: what
    was banned in it leaves nothing. True when the row has gone back. It takes a parser, so that behind most tokens it
    is done while the device computes."""
    matcher = sample.matcher
    count = None if matcher is None else matcher.unstick() if stuck else matcher.go_back()
    if count is None:
        return False
    sample.steered += count
    _take_back(sample, count, tokenizer)
    return True


def reconsider(sample: Sample, tokenizer: Tokenizer, retries: int) -> bool:
    """Judge what the last token closed; on failure go back before that value. True when tokens were taken back.

    Only grammars with a `checked` keyword ask, and requests with checks. After `retries` a text with a value that fails
    goes on and ends `invalid`. Raises Undecided and has changed nothing, where somebody must be asked first.
    """
    matcher = sample.matcher
    if matcher is None or not sample.asks:
        return False
    if b'"' in matcher.last_text and steer(sample, tokenizer):  # before the judge sees it
        return True
    if sample.retries >= retries and matcher.strings is not None:
        matcher.strings.judged()  # whatever the judge says of them
    count = None if sample.retries >= retries else matcher.retreat()
    if count is None:
        return False
    sample.retries += 1
    _take_back(sample, count, tokenizer)
    return True


def settle(sample: Sample) -> None:
    """Hand on what can be taken back no more: with checks alone, all but values that are still to be asked about; with
    languages alone, all but strings that are written in one and not judged."""
    matcher, checks = sample.matcher, sample.checks
    if matcher is None or not sample.withheld:
        return
    if sample.around_strings and matcher.strings is not None:
        held_from = matcher.strings.held_from
        if held_from > sample.settled:
            sample.settled = held_from
            release(sample, matcher.text(matcher.token_ids[held_from:]))
    elif checks is not None and matcher.judge is None:
        news = b"" if matcher.within_string else matcher.last_text
        if not checks.holds(news, lambda: matcher.text(matcher.token_ids)):
            release(sample)


def _take_back(sample: Sample, count: int, tokenizer: Tokenizer) -> None:
    """The last `count` tokens; nothing of what they wrote has been handed on."""
    left = len(sample.output) - count
    taken = sum(len(tokenizer.token_bytes(token) or b"") for token in sample.output[left:])
    del sample.output[left:], sample.logprobs[left:]
    sample.status = None
    sample.retract()
    sample.forced = min(sample.forced, len(sample.output))
    sample.text, sample.pieces = _read_again(sample, tokenizer, taken)
    sample.withheld = "".join(sample.pieces)[sample.told :]


def _read_again(sample: Sample, tokenizer: Tokenizer, taken: int) -> tuple[Detokenizer, list[str]]:
    """What is left of the text without its last bytes: at once, since long texts may go back often."""
    text, again = "".join(sample.pieces), Detokenizer(sample.text.stop)
    if "\ufffd" in text:  # it may stand for bytes
        return again, [again.feed(tokenizer.token_bytes(token) or b"") for token in sample.output]
    data = text.encode("utf-8", "surrogatepass") + sample.text.unsettled
    return again, [again.feed(data[: len(data) - taken])]


def close(sample: Sample, tokenizer: Tokenizer, *, overdue: bool = False, pieces: int = AT_ONCE) -> None:
    """End the text by its shortest legal ending: `closed`; `timeout` where none fits or there is nothing to close.

    Looks for it for so many `pieces`, then writes it for as many; where they do not suffice it is `sought` and this is
    to be called again, or its `ending` is to be written on. Raises Undecided as `reconsider` does.
    """
    matcher = sample.matcher
    if matcher is None or (overdue and not sample.output):
        sample.status = "timeout"
        return
    if (count := matcher.keep_whole(sample.remaining)) is not None:
        sample.steered += count
        _take_back(sample, count, tokenizer)
    if not matcher.seek(sample.remaining, pieces, timed=True):
        sample.abandon_steps()
        sample.sought = partial(close, sample, tokenizer, overdue=overdue)
        return
    sample.sought = None
    ending = matcher.ending(sample.remaining)
    if ending is None:
        sample.status = "timeout" if overdue else "dead_end"
        return
    sample.ending = list(reversed(ending))
    write_on(sample, tokenizer, pieces / 1e3)
    if sample.ending:
        sample.abandon_steps()


def write_on(sample: Sample, tokenizer: Tokenizer, seconds: float) -> None:
    """Write its ending for so many seconds of processor time, a token at least; `closed` at the end of it."""
    until, matcher = time.thread_time() + seconds, sample.matcher
    while sample.ending and matcher is not None:
        token = sample.ending.pop()
        if not matcher.accept(token, legal=True):
            raise matcher.fail(token_id=token)
        _take(sample, token, tokenizer)
        if time.thread_time() >= until:
            break
    if not sample.ending:
        sample.status = "closed"


def _take(sample: Sample, token: int, tokenizer: Tokenizer) -> None:
    sample.output.append(token)
    emit(sample, sample.text.feed(tokenizer.token_bytes(token) or b""))


def _take_free(sample: Sample, token: int, tokenizer: Tokenizer) -> None:
    sample.output.append(token)
    if token in tokenizer.stop_token_ids:
        sample.status = "complete"
        return
    emit(sample, sample.text.feed(tokenizer.token_bytes(token) or b""))
    if sample.text.stopped:
        sample.status = "complete"
    elif sample.remaining == 0:
        sample.status = "length"


def emit(sample: Sample, text: str) -> None:
    """Keep settled text, and hand it on unless it may be taken back. A listener that raises fails this row only."""
    if text:
        sample.pieces.append(text)
        sample.withheld += text
    if not sample.asks:
        release(sample)


def release(sample: Sample, held: bytes = b"") -> None:
    """Hand on what was held back because it could have been taken back, but for what is `held` still."""
    text = sample.withheld
    if held:
        data = text.encode() + sample.text.unsettled
        text = data[: -len(held)].decode(errors="ignore")  # a character may be held in part
    sample.withheld = sample.withheld[len(text) :]
    sample.told += len(text)
    if text and sample.job.on_text is not None:
        sample.job.on_text(sample.index, text)


def note_logprobs(sample: Sample, token: int, tokenizer: Tokenizer, sampled: Sampled, index: int) -> None:
    """Keep what the request asked for about a token that was drawn."""
    if sampled.log_mass is not None:
        sample.log_mass += sampled.log_mass[index]
    asked = sample.job.request.sampling.logprobs
    if asked is None or sampled.logprob is None or sampled.logprob_raw is None or sampled.top is None:
        return
    top = [
        {"token_id": i, "token": tokenizer.decode([i]), "raw": raw, "constrained": constrained}
        for i, raw, constrained in sampled.top[index][:asked]
    ]
    sample.logprobs.append(
        {
            "token_id": token,
            "token": tokenizer.decode([token]),
            "raw": sampled.logprob_raw[index],
            "constrained": sampled.logprob[index],
            "top": top,
        }
    )
