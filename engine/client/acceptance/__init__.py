"""The acceptance run: the six criteria of a deployment, measured on live answers and judged."""
