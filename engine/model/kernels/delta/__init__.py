"""Gated DeltaNet (arXiv 2412.06464), as Qwen3-Next has it: a layer that keeps a matrix a head in place of a cache."""
