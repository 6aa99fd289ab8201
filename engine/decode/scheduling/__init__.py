"""Who runs in the next step: slots and blocks shared between owners, and what of a prompt is in the cache."""
