"""A weight as codes and scales: what codes mean, rounding to them, reading them back, what a model's weights weigh."""
