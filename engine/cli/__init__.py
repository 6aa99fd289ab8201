"""The `maskloop` command: one file per subcommand, each imported when it is run.

Exit codes: 0 ok, 1 it ran and failed, 2 wrong usage or bad input, 130 interrupted. Results go to stdout, everything
else to stderr; a user's mistake is one line, never a traceback.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """What the installed script starts. Nothing is imported before it runs, so that Ctrl-C is heeded from here on."""
    try:
        from engine.cli.dispatch import run

        return run(argv)
    except KeyboardInterrupt:
        sys.stderr.write("maskloop: interrupted\n")
        return 130
