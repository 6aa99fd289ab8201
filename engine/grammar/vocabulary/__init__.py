"""The tokens of a model by their bytes: texts, shortest tokenizations, what each does to an open string."""
