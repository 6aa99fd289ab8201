"""The GPU's runner: weights laid out for kernels, forwards behind captured graphs, one synchronisation a step."""
