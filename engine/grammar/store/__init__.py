"""Compiled grammars in memory and on disk, and how missing ones are made."""
