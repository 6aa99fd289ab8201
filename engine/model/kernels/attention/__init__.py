"""Attention over the KV cache: one token, a few, many."""
