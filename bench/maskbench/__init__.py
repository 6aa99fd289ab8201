"""MaskBench over several engines: the run, its figures and its tables."""
