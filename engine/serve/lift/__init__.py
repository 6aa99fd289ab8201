"""LIFT's contract: bodies, answers, routes, and the same as plain functions."""
