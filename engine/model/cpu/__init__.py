"""Everything in plain torch: the decoder, its cache, sampling and the runner. The specification of cuda/."""
