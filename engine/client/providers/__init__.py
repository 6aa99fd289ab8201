"""LIFT's provider over HTTP, over Modal's function calls, and with Claude behind it."""
