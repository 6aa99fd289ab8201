"""The fast path at full depth against Hugging Face's modules: the comparison and its reference."""
