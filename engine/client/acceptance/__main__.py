"""`python -m engine.client.acceptance URL`: the run against any service, without Modal."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from engine.client.acceptance.judge import judge_url
from engine.client.acceptance.plan import Plan


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m engine.client.acceptance", description="The acceptance run.")
    parser.add_argument("url", help="the generate URL")
    parser.add_argument("--out", type=Path, help="JSON file of the report")
    parser.add_argument("--max-tokens", type=int, default=1024)
    parser.add_argument("--fallback-model", help="judge the fallback with this model; needs ANTHROPIC_API_KEY")
    options = parser.parse_args(arguments)
    plan = Plan(max_tokens=options.max_tokens, fallback=Plan.fallback_to(options.fallback_model))
    return judge_url(options.url, plan, options.out)


if __name__ == "__main__":
    raise SystemExit(main())
