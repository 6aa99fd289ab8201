"""What an engine got wrong, as a Markdown list for the person who mends it: names, places, pointers, slowest steps.

Knows outcomes and the validator's view. The file holds pieces of the data, so it is for local use.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from bench.record import commit
from bench.tally import Judged, figures
from bench.vocabulary import Vocabulary, load_vocabulary
from bench.worker import Outcome

SHOWN = 60
CONTEXT = 60


def write_findings(file: Path, outcomes: Sequence[Outcome], judged: dict[str, list[Judged]], tokenizer: str) -> None:
    """Overwrite `file` with false rejects, unnamed accepts, refusals, slowest fills and compiles."""
    vocabulary = load_vocabulary(tokenizer)
    by_case = {outcome.case: outcome for outcome in outcomes}
    tests = [one for rows in judged.values() for one in rows]
    refused = [one for one in tests if one.valid and one.accepted is False]
    rejected = [one for one in refused if not narrowed(by_case[one.case.name])]
    excused = [one for one in refused if narrowed(by_case[one.case.name])]
    unnamed = [one for one in tests if not one.valid and one.accepted and not one.named]
    named = [one for one in tests if not one.valid and one.accepted and one.named]
    parts = [
        f"# Findings at commit {commit()}, vocabulary {vocabulary.name}",
        *(f"- {name}: {value}" for name, value in figures(outcomes, tests).items()),
        *_section(
            "False rejects, nothing narrowed", (_reject(one, by_case[one.case.name], vocabulary) for one in rejected)
        ),
        *_section("Invalid accepted, unnamed", (_slip(one) for one in unnamed)),
        *_section("False rejects, narrowed", (_reject(one, by_case[one.case.name], vocabulary) for one in excused)),
        *_section("Invalid accepted, named: by keyword", _counted(one.keyword for one in named)),
        *_section("Checked verdicts by keyword and reason", _checked(outcomes)),
        *_section("Refusals", (f"{o.case}: {o.reason[:300]}" for o in outcomes if not (o.compiled or o.crashed))),
        *_section("Crashes", _crashes(outcomes)),
        *_section("Slowest fills", _slow_fills(outcomes, judged, vocabulary)),
        *_section("Slowest compiles (CPU ms)", _slow_compiles(outcomes)),
    ]
    file.write_text("\n".join(parts) + "\n", encoding="utf-8")


def narrowed(outcome: Outcome) -> bool:
    """Whether a verdict says that valid documents are left out."""
    return any(verdict["verdict"] in ("narrowed", "refused") for verdict in outcome.verdicts)


def _section(title: str, lines: Iterable[str]) -> list[str]:
    listed = list(lines)
    more = [f"- ... and {len(listed) - SHOWN} more"] if len(listed) > SHOWN else []
    return ["", f"## {title} ({len(listed)})", *(f"- {line}" for line in listed[:SHOWN]), *more]


def _reject(one: Judged, outcome: Outcome, vocabulary: Vocabulary) -> str:
    text, tokens = one.case.tests[one.index].text, outcome.tokens[one.index]
    return f"{one.case.name} [{one.index}] ({outcome.causes[one.index]}): {_split(text, tokens, vocabulary)}"


def _split(text: str, tokens: int, vocabulary: Vocabulary) -> str:
    """The text around the first token that was refused, which stands between ⟦ ⟧."""
    ids = vocabulary.encode(text)
    done = b"".join(vocabulary.tokens[token] or b"" for token in ids[:tokens])
    failed = (vocabulary.tokens[ids[tokens]] or b"") if tokens < len(ids) else b"<end>"
    rest = b"".join(vocabulary.tokens[token] or b"" for token in ids[tokens + 1 : tokens + 1 + CONTEXT // 3])
    before, token, after = (part.decode("utf-8", "replace") for part in (done, failed, rest))
    return f"`…{before[-CONTEXT:]}⟦{token}⟧{after[: CONTEXT // 3]}`"


def _slip(one: Judged) -> str:
    first = one.failures[0] if one.failures else None
    place = "/" + "/".join(first.location) if first else "the validator finds no failure"
    return f"{one.case.name} [{one.index}] {one.keyword} at {place}: {first.message[:120] if first else ''}"


def _counted(names: Iterable[str]) -> list[str]:
    return [f"{name}: {count}" for name, count in Counter(names).most_common()]


def _checked(outcomes: Sequence[Outcome]) -> list[str]:
    verdicts = (verdict for outcome in outcomes for verdict in outcome.verdicts if verdict["verdict"] == "checked")
    return _counted(f"{verdict['keyword']} — {verdict.get('reason', '')[:120]}" for verdict in verdicts)


def _crashes(outcomes: Sequence[Outcome]) -> list[str]:
    """Compiles that died, and walks that ended otherwise than at a mask."""
    usual = ("", "mask")
    dead = [f"{o.case}: {o.reason[:300]}" for o in outcomes if o.crashed]
    walks = [f"{o.case} [{n}]: {cause}" for o in outcomes for n, cause in enumerate(o.causes) if cause not in usual]
    return dead + walks


def _slow_fills(outcomes: Sequence[Outcome], judged: dict[str, list[Judged]], vocabulary: Vocabulary) -> list[str]:
    """The slowest step of each test, slowest first, one test a schema."""
    worst = []
    for outcome in outcomes:
        steps = [(us, test, step) for test, row in enumerate(outcome.fill_us) for step, us in enumerate(row)]
        if steps:
            worst.append((*max(steps), outcome.case))
    lines = []
    for us, test, step, case in sorted(worst, reverse=True)[: SHOWN // 2]:
        text = judged[case][test].case.tests[test].text
        lines.append(f"{us:,.0f} µs {case} [{test}] step {step}: {_split(text, step, vocabulary)}")
    return lines


def _slow_compiles(outcomes: Sequence[Outcome]) -> list[str]:
    slow = sorted(outcomes, key=lambda outcome: -outcome.compile_ms)[: SHOWN // 2]
    return [f"{outcome.compile_ms:,.0f} {outcome.case} {outcome.reason[:80]}" for outcome in slow]
