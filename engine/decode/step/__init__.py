"""One step for all rows: forward, masks, drafts, sampling, and what a token does to its row."""
