"""Benches: each states its ceiling, prints a table for people and ends with one JSON line for programs.

Knows the engine's public parts and the peers it is compared with. The engine never imports it.
"""
