"""What a day costs: requests a day, how they arrive, and how long an idle container stays up. Computed, never measured.

    python -m bench.cost [--service-s S] [--load-s S] [--gpu NAME] [--quick] [--out DIR]

The list prices and their date are `engine.serve.prices`. Evenly spread: one request every 86400/N seconds. Bursts: ten
at once, evenly spread. A container bills from the start of its load to the end of its scale-down window. Ceiling (the
least any deployment can cost): work alone, without idle or start-up.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import product

from bench.harness.commandline import Options
from bench.harness.record import emit, record
from engine.serve.modal.deployment import DAY_S, Deployment
from engine.serve.prices import LISTED

REQUESTS = (10, 100, 1_000, 10_000)
WINDOWS_S = (20, 120, 300)
BURST = 10
"""Requests that come at once, where they come in bursts."""


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
    starts, played_s = play(requests // burst, burst * service_s, window_s, load_s)
    up_s, arrival = min(played_s, float(DAY_S)), f"bursts of {burst}" if burst > 1 else "even"
    work, paid = requests * service_s * usd_per_s, up_s * usd_per_s
    return Day(requests, arrival, window_s, starts, up_s, starts > 1 or played_s < DAY_S, work, paid, paid / requests)


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
    for burst, requests, window_s in product((1, BURST), REQUESTS, WINDOWS_S):
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
    parser = Options("cost", __doc__, "the same: it takes no time")
    parser.add_argument("--service-s", type=float, default=3.0, help="GPU seconds of one document (default 3)")
    parser.add_argument("--load-s", type=float, default=60.0, help="seconds of one cold start (default 60)")
    parser.add(gpu=Deployment().gpu)
    options = parser.read(arguments)
    assumed = {"service_s": options.service_s, "load_s": options.load_s}
    assumed["usd_per_s"] = Deployment(gpu=options.gpu).container_usd_per_s
    cells = list(days(**assumed))
    print(f"{options.gpu} container ${assumed['usd_per_s']:.6f}/s, list prices of {LISTED.as_of};")
    print(f"{options.service_s:g} s a document, {options.load_s:g} s a cold start; * the container never closes\n")
    print(table(cells))
    configuration = {"gpu": options.gpu, **assumed, "prices_as_of": LISTED.as_of}
    figures = {"cells": [asdict(cell) for cell in cells]}
    emit(record("cost", figures, configuration=configuration, label="computed"), options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
