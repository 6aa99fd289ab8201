"""Joins the JSON lines of many bench runs into one HTML report: tables of figures, and the configuration of each.

    python -m bench.report DIR [-o report.html]

Reads every `*.jsonl` below DIR and takes the lines that hold `bench` (other files of a run are skipped). The page is
self-contained. Knows the shape of a line, not the meaning of any bench.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

COMMON = (
    "bench", "commit", "dirty", "date", "versions", "device", "cores", "configuration", "seeds", "repeats",
    "data_sha256", "model_revision", "label",
)  # fmt: skip
STYLE = """
:root{color-scheme:light dark}body{margin:0 auto;max-width:1180px;padding:24px;font:14px/1.5 ui-sans-serif,sans-serif}
nav a{margin-right:14px}.run{border:1px solid #8885;border-radius:12px;padding:6px 18px 16px;margin:14px 0}
.wide,pre{overflow-x:auto;font-size:13px}table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{padding:4px 10px;border-bottom:1px solid #8885;text-align:right;white-space:nowrap}
th:first-child,td:first-child{text-align:left}
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the report; 1 where no line was found."""
    parser = argparse.ArgumentParser(prog="python -m bench.report", description="One HTML page of many bench lines")
    parser.add_argument("folder", type=Path)
    parser.add_argument("-o", "--out", type=Path, default=Path("report.html"))
    options = parser.parse_args(arguments)
    lines = read_lines(options.folder)
    if not lines:
        print(f"no bench line in {options.folder}", file=sys.stderr)
        return 1
    options.out.write_text(render(lines), encoding="utf-8")
    print(options.out)
    return 0


def read_lines(folder: Path) -> list[dict[str, Any]]:
    """Every line that holds `bench`, by bench and date. ValueError names a line that is not JSON."""
    found = []
    for file in sorted(folder.rglob("*.jsonl")):
        for position, text in enumerate(file.read_text(encoding="utf-8").split("\n"), 1):
            try:
                found.append(json.loads(text) if text.strip() else None)
            except ValueError as error:
                raise ValueError(f"{file}:{position} is not JSON: {error}") from None
    lines = [line for line in found if isinstance(line, dict) and "bench" in line and "commit" in line]
    return sorted(lines, key=lambda line: (str(line["bench"]), str(line.get("date", ""))))


def render(lines: Sequence[Mapping[str, Any]]) -> str:
    """The page."""
    names = [escape(name) for name in dict.fromkeys(str(line["bench"]) for line in lines)]
    links = "".join(f'<a href="#{name}">{name}</a>' for name in names)
    sections = "".join(
        f'<h2 id="{name}">{name}</h2>' + "".join(_run(line) for line in lines if escape(str(line["bench"])) == name)
        for name in names
    )
    title = f"maskloop benches: {len(lines)} runs"
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>'
        f"</head><body><h1>{title}</h1><nav>{links}</nav>{sections}</body></html>\n"
    )


def _run(line: Mapping[str, Any]) -> str:
    figures = {key: value for key, value in line.items() if key not in COMMON}
    plain = {key: value for key, value in figures.items() if not isinstance(value, list | Mapping)}
    parts = [table([{"": key, " ": value} for key, value in plain.items()])] if plain else []
    parts += [_part(key, value) for key, value in figures.items() if key not in plain]
    settings = json.dumps({key: value for key, value in line.items() if key in COMMON}, indent=1, ensure_ascii=False)
    changed = " with changes" if line.get("dirty") else ""
    about = (
        f"{line.get('date')} · commit {str(line['commit'])[:10]}{changed} · {line.get('device')} · {line.get('label')}"
    )
    folded = f"<details><summary>configuration</summary><pre>{escape(settings)}</pre></details>"
    return f'<div class="run"><p class="about">{escape(about)}</p>{"".join(parts)}{folded}</div>'


def _part(key: str, value: Any) -> str:
    """A list of runs, or a mapping of named rows, as a table; anything else as text."""
    named = value.items() if isinstance(value, Mapping) else ()
    rows = [{"": name, **part} if isinstance(part, Mapping) else part for name, part in named] or value
    if rows and all(isinstance(row, Mapping) for row in rows):
        return f"<h3>{escape(key)}</h3>{table([flat(row) for row in rows])}"
    return f"<p>{escape(key)}: {escape(json.dumps(value, ensure_ascii=False)[:2000])}</p>"


def flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as dotted names."""
    found: dict[str, Any] = {}
    for key, part in value.items():
        found |= flat(part, f"{prefix}{key}.") if isinstance(part, Mapping) else {f"{prefix}{key}": part}
    return found


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """An HTML table; cells are escaped here."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    top = "".join(f"<th>{escape(name)}</th>" for name in columns)
    cells = ("".join(f"<td>{escape(_cell(row[name]) if name in row else '')}</td>" for name in columns) for row in rows)
    body = "".join(f"<tr>{row}</tr>" for row in cells)
    return f'<div class="wide"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def _cell(value: Any) -> str:
    """Numbers with four significant digits, thousands apart."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if float(value).is_integer():
        return f"{int(value):,}"
    return f"{value:,.4g}" if abs(value) < 10_000 else f"{value:,.0f}"


if __name__ == "__main__":
    sys.exit(main())
