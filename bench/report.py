"""Joins the JSON lines of many bench runs into one HTML report: figures, plots, and the configuration of each.

    python -m bench.report DIR [-o report.html]

Reads every `*.jsonl` below DIR and takes the lines that hold `bench` (other files of a run are skipped). The page is
self-contained. Knows the shape of a line, not the meaning of any bench.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from bench.charts import bars, number

COMMON = (
    "bench",
    "commit",
    "dirty",
    "date",
    "versions",
    "device",
    "cores",
    "configuration",
    "seeds",
    "repeats",
    "data_sha256",
    "model_revision",
    "label",
)
PLOTTED = (
    "ms_per_step",
    "tokens_per_s",
    "document_tokens_per_s",
    "ceiling_share",
    "mask_exposed_us",
    "mask_hidden_us",
    "added_us",
    "compile_ms.p50",
    "compile_ms.p99",
    "fill_us.p50",
    "fill_us.p99",
    "fill_us.max",
    "valid_rejected",
    "invalid_accepted_unnamed",
    "kl_all",
    "kl_legal",
    "p50_s",
    "p99_s",
)
STYLE = """
:root{color-scheme:light dark;--paper:#fbfaf7;--panel:#fff;--ink:#1c1d20;--soft:#6a6d75;--line:#e4e1d9;--bar:#2f6fde}
@media(prefers-color-scheme:dark){:root{--paper:#131418;--panel:#1a1c21;--ink:#e9e7e1;--soft:#9a9da6;--line:#2c2f37;
--bar:#6ca0ff}}
*{box-sizing:border-box}body{margin:0 auto;max-width:1180px;padding:24px;background:var(--paper);color:var(--ink);
font:14px/1.5 ui-sans-serif,system-ui,"Segoe UI",Roboto,Arial,sans-serif}
h1{font-size:22px;letter-spacing:-.01em}h2{margin:40px 0 2px;font-size:18px}nav a{margin-right:14px;color:var(--bar)}
.about{color:var(--soft);margin:0 0 10px}.run{background:var(--panel);border:1px solid var(--line);border-radius:12px;
padding:6px 18px 16px;margin:14px 0}.wide{overflow-x:auto}table{border-collapse:collapse;width:100%;
font-variant-numeric:tabular-nums;font-size:13px}th,td{padding:4px 10px;border-bottom:1px solid var(--line);
text-align:right;white-space:nowrap}th{color:var(--soft);font-weight:600}th:first-child,td:first-child{text-align:left}
.chart{width:100%;max-width:820px;margin:14px 0 0}.chart text{font-size:12px;fill:var(--soft)}
.chart .title{font-weight:600;fill:var(--ink)}.chart rect{fill:var(--bar)}details{color:var(--soft);margin-top:10px}
pre{overflow-x:auto;font-size:12px}
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
            if text.strip():
                found.append(_parsed(text, f"{file}:{position}"))
    lines = [line for line in found if isinstance(line, dict) and "bench" in line and "commit" in line]
    return sorted(lines, key=lambda line: (str(line["bench"]), str(line.get("date", ""))))


def render(lines: Sequence[Mapping[str, Any]]) -> str:
    """The page."""
    names = list(dict.fromkeys(str(line["bench"]) for line in lines))
    links = "".join(f'<a href="#{escape(name)}">{escape(name)}</a>' for name in names)
    sections = "".join(_section(name, [line for line in lines if line["bench"] == name]) for name in names)
    title = f"maskloop benches: {len(lines)} runs"
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>'
        f"</head><body><h1>{title}</h1><nav>{links}</nav>{sections}</body></html>\n"
    )


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueError(f"{where} is not JSON: {error}") from None


def _section(name: str, lines: Sequence[Mapping[str, Any]]) -> str:
    return f'<h2 id="{escape(name)}">{escape(name)}</h2>' + "".join(_run(line) for line in lines)


def _run(line: Mapping[str, Any]) -> str:
    figures = {key: value for key, value in line.items() if key not in COMMON}
    parts = [_part(key, value) for key, value in figures.items() if isinstance(value, list | Mapping)]
    plain = {key: value for key, value in figures.items() if not isinstance(value, list | Mapping)}
    if plain:
        parts.insert(0, table(["", ""], [[key, _cell(value)] for key, value in plain.items()]))
    settings = json.dumps({key: line[key] for key in COMMON if key in line}, indent=1, ensure_ascii=False)
    about = " · ".join(_about(line))
    folded = f"<details><summary>configuration</summary><pre>{escape(settings)}</pre></details>"
    return f'<div class="run"><p class="about">{escape(about)}</p>{"".join(parts)}{folded}</div>'


def _about(line: Mapping[str, Any]) -> Iterable[str]:
    yield str(line.get("date", ""))
    yield f"commit {str(line.get('commit'))[:10]}" + (" with changes" if line.get("dirty") else "")
    yield str(line.get("device", ""))
    yield str(line.get("label", ""))


def _part(key: str, value: Any) -> str:
    """A list of runs, or a mapping of named rows, as a table with its plots; anything else as one row of cells."""
    rows = _rows(value)
    if rows is None:
        return f"<p>{escape(key)}: {escape(json.dumps(value, ensure_ascii=False)[:2000])}</p>"
    columns = list(dict.fromkeys(name for _, row in rows for name in row))
    numeric = [name for name in columns if all(_is_number(row.get(name, 0)) for _, row in rows)]
    labels = [
        label or " · ".join(_cell(row[n]) for n in columns if n not in numeric and n in row) for label, row in rows
    ]
    labels = [
        f"{label} · batch {row['batch']}" if "batch" in row else label
        for label, (_, row) in zip(labels, rows, strict=True)
    ]
    charts = "".join(
        bars(name, labels, [float(row.get(name, 0)) for _, row in rows]) for name in PLOTTED if name in numeric
    )
    body = [
        [label or str(number), *(_cell(row.get(c, "")) for c in columns)] for number, (label, row) in enumerate(rows)
    ]
    return f"<h3>{escape(key)}</h3>{table(['', *columns], body)}{charts}"


def _rows(value: Any) -> list[tuple[str, dict[str, Any]]] | None:
    if isinstance(value, Mapping) and value and all(isinstance(part, Mapping) for part in value.values()):
        return [(str(name), flat(part)) for name, part in value.items()]
    if isinstance(value, list) and value and all(isinstance(part, Mapping) for part in value):
        return [("", flat(part)) for part in value]
    return None


def flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as dotted names."""
    found: dict[str, Any] = {}
    for key, part in value.items():
        name = f"{prefix}{key}"
        found |= flat(part, name + ".") if isinstance(part, Mapping) else {name: part}
    return found


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """An HTML table; cells are escaped here."""
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def _cell(value: Any) -> str:
    if _is_number(value):
        return number(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


if __name__ == "__main__":
    sys.exit(main())
