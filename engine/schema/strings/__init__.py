"""Strings, numbers and keys as rules, written once and shared."""
