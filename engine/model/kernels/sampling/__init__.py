"""Mask and sample."""
