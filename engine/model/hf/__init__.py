"""transformers' models with quantised weights in them."""
