"""One file a subcommand: `add_arguments` and `run`, which gives the exit code."""
