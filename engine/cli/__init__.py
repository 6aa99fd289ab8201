"""The `maskloop` command: one file per subcommand, each imported when it is run.

Exit codes: 0 ok, 1 it ran and failed, 2 wrong usage or bad input, 130 interrupted. Results go to stdout, everything
else to stderr; a user's mistake is one line, never a traceback.
"""

from engine.cli.main import main

__all__ = ["main"]
