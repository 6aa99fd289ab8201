"""What a day costs: requests a day, how they arrive, and how long an idle container stays up. Computed, never measured.

    python -m bench.cost [--service-s S] [--load-s S] [--gpu NAME] [--quick] [--out DIR]

The list prices and their date are `engine.serve.prices`. Evenly spread: one request every 86400/N seconds. Bursts: ten
at once, evenly spread. A container bills from the start of its load to the end of its scale-down window. Ceiling (the
least any deployment can cost): work alone, without idle or start-up.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.record import emit, record
from engine.serve.modal.deployment import DAY_S, Deployment
from engine.serve.prices import LISTED

REQUESTS = (10, 100, 1_000, 10_000)
WINDOWS_S = (20, 120, 300)
BURST = 10


@dataclass(frozen=True, slots=True)
class Day:
    """One cell: seconds up and dollars of one day on one container; `closes` is whether it ever scales down."""

    requests: int
    arrival: str
    window_s: int
    starts: int
    up_s: float
    closes: bool
    work_usd: float
    day_usd: float
    per_request_usd: float


def day(requests: int, burst: int, window_s: int, *, service_s: float, load_s: float, usd_per_s: float) -> Day:
    """The day of one container, played through. Work that does not fit into a day is refused: it needs a second one."""
    if requests * service_s > DAY_S:
        raise ValueError(f"{requests} requests of {service_s:g} s do not fit into one container's day")
    starts, up_s = play(requests // burst, burst * service_s, window_s, load_s)
    closes = starts > 1 or up_s < DAY_S
    up_s = min(up_s, float(DAY_S))
    return Day(
        requests=requests,
        arrival=f"bursts of {burst}" if burst > 1 else "even",
        window_s=window_s,
        starts=starts,
        up_s=up_s,
        closes=closes,
        work_usd=requests * service_s * usd_per_s,
        day_usd=up_s * usd_per_s,
        per_request_usd=up_s * usd_per_s / requests,
    )


def play(batches: int, busy_s: float, window_s: float, load_s: float) -> tuple[int, float]:
    """Cold starts and seconds up, for `batches` arrivals evenly over a day, each `busy_s` of work."""
    starts, up_s, opened, until = 0, 0.0, 0.0, -1.0
    for number in range(batches):
        arrives = number * DAY_S / batches
        begins = max(arrives, until - window_s)
        if arrives > until:
            up_s += max(0.0, until - opened)
            starts, opened, begins = starts + 1, arrives, arrives + load_s
        until = begins + busy_s + window_s
    return starts, up_s + until - opened


def days(*, service_s: float, load_s: float, usd_per_s: float) -> Iterator[Day]:
    """Every cell of the table that one container can serve."""
    for burst in (1, BURST):
        for requests in REQUESTS:
            for window_s in WINDOWS_S:
                yield day(requests, burst, window_s, service_s=service_s, load_s=load_s, usd_per_s=usd_per_s)


def table(cells: Sequence[Day]) -> str:
    """Markdown: dollars a day and, in brackets, a request; `*` where the container never closes."""
    lines = ["| requests a day | arrival | " + " | ".join(f"{window} s" for window in WINDOWS_S) + " | work alone |"]
    lines.append("|--:|--|" + "--:|" * (len(WINDOWS_S) + 1))
    for start in range(0, len(cells), len(WINDOWS_S)):
        row = cells[start : start + len(WINDOWS_S)]
        money = [f"${cell.day_usd:.2f} (${cell.per_request_usd:.4f}){'' if cell.closes else ' *'}" for cell in row]
        head = f"| {row[0].requests:,} | {row[0].arrival} | "
        lines.append(head + " | ".join(money) + f" | ${row[0].work_usd:.2f} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the assumptions, the table and the JSON line."""
    defaults = Deployment()
    parser = argparse.ArgumentParser(prog="python -m bench.cost", description="What a day costs; computed.")
    parser.add_argument("--service-s", type=float, default=3.0, help="GPU seconds of one document (default 3)")
    parser.add_argument("--load-s", type=float, default=60.0, help="seconds of one cold start (default 60)")
    parser.add_argument("--gpu", default=defaults.gpu, help=f"default {defaults.gpu}")
    parser.add_argument("--quick", action="store_true", help="the same: it takes no time")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    usd_per_s = Deployment(gpu=options.gpu).container_usd_per_s
    cells = list(days(service_s=options.service_s, load_s=options.load_s, usd_per_s=usd_per_s))
    print(f"{options.gpu} container ${usd_per_s:.6f}/s, list prices of {LISTED.as_of};")
    print(f"{options.service_s:g} s a document, {options.load_s:g} s a cold start; * the container never closes\n")
    print(table(cells))
    line = record(
        "cost",
        {"cells": [asdict(cell) for cell in cells]},
        configuration={
            "gpu": options.gpu,
            "service_s": options.service_s,
            "load_s": options.load_s,
            "usd_per_s": usd_per_s,
            "prices_as_of": LISTED.as_of,
        },
        label="computed",
    )
    emit(line, options.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
