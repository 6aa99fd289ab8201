"""Texts as they are asked for: in which language, of which unit, and whether a finished one is."""
