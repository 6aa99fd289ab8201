"""Real clients against a real server: `python -m tests.clients [NAME ...] [--url URL] [--write]`.

Each client runs its documented usages in an environment of its own (`.clients/NAME`, versions from `locks/`), against
`maskloop serve` with the embedded model, which this starts unless --url names a server. Prints a table; --write puts it
into docs/clients.md. Exit code 1 when a usage fails that the table does not excuse. Needs npm for the JavaScript ones.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from datetime import date
from typing import Any

from tests.clients.places import ENVIRONMENTS, HERE, ROOT, python_of, server

PAGE = ROOT / "docs" / "clients.md"
CLIENTS = {
    "openai": ("openai", "openai"),
    "instructor": ("instructor", "instructor"),
    "pydantic_ai": ("pydantic-ai", "pydantic-ai-slim"),
    "langchain": ("LangChain, LangGraph", "langchain-openai"),
    "litellm": ("litellm", "litellm"),
    "llama_index": ("LlamaIndex", "llama-index-llms-openai-like"),
    "dspy": ("DSPy", "dspy"),
    "outlines": ("Outlines", "outlines"),
    "guidance": ("guidance", "guidance"),
    "agents": ("OpenAI Agents SDK", "openai-agents"),
    "llm": ("llm", "llm"),
    "npm": ("openai, ai (npm)", "ai"),
}
"""By name: how people call it, and the package whose version the table shows."""
NO_SCHEMA = "the client sends no `json_schema` in `response_format` in this mode: what comes is up to the model"
EXCUSED = {
    ("instructor", "Mode.JSON"): NO_SCHEMA,
    ("instructor", "Mode.MD_JSON"): NO_SCHEMA,
    (
        "instructor",
        "Mode.PARALLEL_TOOLS",
    ): "the client sends `tool_choice: auto`: the model may talk instead of calling a tool",
    ("pydantic_ai", "PromptedOutput"): NO_SCHEMA,
    (
        "dspy",
        "Predict, JSONAdapter",
    ): "DSPy does not know the model and sends no `json_schema`; as `lm_studio/NAME` it does",
    ("dspy", "Predict, ChatAdapter with JSON as its way out"): NO_SCHEMA,
}
"""Usages that a tiny model may fail although the server does what it is asked."""

HEAD = """# Clients

Unchanged clients, used in ways that their own documentation shows, against `maskloop serve` with the embedded model:
point the base URL at `http://HOST:PORT/v1` and use any key (one of the service's where it has keys). *Works* means that
the usage ran to its end and gave what it is for. *Served* means that the server did what it was asked, which did not
include a schema, so that the answer's form depends on the model. All rows are of one run of `make clients` on {day} on
a CPU, at commit {commit}. The code is in `tests/clients/usages`.
"""


def main() -> int:
    """Run the clients asked for (default: all)."""
    parser = argparse.ArgumentParser(prog="python -m tests.clients", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(CLIENTS))
    parser.add_argument("--url", help="a running server instead of one started here")
    parser.add_argument("--write", action="store_true", help="put the table into docs/clients.md")
    args = parser.parse_args()
    if unknown := set(args.names) - set(CLIENTS):
        parser.error(f"no client {', '.join(sorted(unknown))}; there are: {', '.join(CLIENTS)}")
    if args.write and args.names:
        parser.error("--write puts a whole run into docs/clients.md; name no client beside it")
    rows: list[dict[str, Any]] = []
    with server(args.url) as url:
        for name in args.names or CLIENTS:
            for row in _run(name, url):
                rows.append(row)
                word = "ok" if row["ok"] else "FAILED"
                print(f"{row['client']:<12} {word:<7} {row['usage']}  {row['why']}", flush=True)
    failed = [row for row in rows if not row["ok"] and (row["client"], row["usage"]) not in EXCUSED]
    if args.write:
        PAGE.write_text(_page(rows))
    print(f"{len(rows)} usages of {len({row['client'] for row in rows})} clients, {len(failed)} failed")
    return 1 if failed else 0


def _run(name: str, url: str) -> Iterator[dict[str, Any]]:
    command = _npm() if name == "npm" else [python_of(name), f"{name}_client.py"]
    if command is None:
        print(f"{name:<12} skipped: there is no npm here", flush=True)
        return
    told = {"CLIENTS_BASE_URL": f"{url}/v1", "CLIENTS_MODEL": "smollm2-135m", "NO_PROXY": "127.0.0.1"}
    ran = subprocess.run(
        command, cwd=HERE / "usages", env={**os.environ, **told}, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    lines = [json.loads(line) for line in ran.stdout.decode().splitlines() if line.startswith('{"usage"')]
    for line in lines:
        yield {"client": name, **line, "why": " ".join(line["why"].split())[:200]}
    if not lines or ran.returncode:
        yield {"client": name, "usage": "(ends)", "ok": False, "why": f"exit code {ran.returncode}"}


def _npm() -> list[str] | None:
    npm = shutil.which("npm")
    if npm is None:
        return None
    folder = ENVIRONMENTS / "npm"
    folder.mkdir(parents=True, exist_ok=True)
    for file in ("package.json", "npm_client.mjs"):
        shutil.copy(HERE / "usages" / file, folder / file)
    if not (folder / "node_modules").exists():
        subprocess.run([npm, "install", "--silent", "--no-audit", "--no-fund"], cwd=folder, check=True)
    return ["node", str(folder / "npm_client.mjs")]


def _version(name: str) -> str:
    if name == "npm":
        packages = json.loads((HERE / "usages" / "package.json").read_text())["dependencies"]
        return f"npm: openai {packages['openai']}, ai {packages['ai']}"
    package = CLIENTS[name][1]
    found = re.search(rf"^{re.escape(package)}==(\S+)$", (HERE / "locks" / f"{name}.txt").read_text(), re.MULTILINE)
    return found[1] if found else "?"


def _page(rows: list[dict[str, Any]]) -> str:
    head = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True)
    parts = [HEAD.format(day=date.today().isoformat(), commit=head.stdout.strip())]
    for name in dict.fromkeys(row["client"] for row in rows):
        title = _version(name) if name == "npm" else f"{CLIENTS[name][0]} {_version(name)}"
        parts += [f"## {title}\n", "| usage | |\n|--|--|"]
        parts += [f"| {row['usage']} | {_outcome(row)} |" for row in rows if row["client"] == name]
        parts.append("")
    return "\n".join(parts)


def _outcome(row: dict[str, Any]) -> str:
    excuse = EXCUSED.get((row["client"], row["usage"]))
    if row["ok"]:
        return "works"
    return f"served; {excuse}" if excuse else f"fails: {row['why']}".replace("|", "\\|")


if __name__ == "__main__":
    raise SystemExit(main())
