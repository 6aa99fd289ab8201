"""The engine's own folder of quantised weights: written, described, read in parallel."""
