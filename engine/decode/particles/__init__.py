"""Texts from the model's own distribution, given that they are valid: by weighted particles, or by rejection."""
