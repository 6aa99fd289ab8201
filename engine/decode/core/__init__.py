"""The decode thread and what it does between two steps."""
