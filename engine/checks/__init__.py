"""Checks of the caller's own: which values they are asked about, where they run, and what their answers mean.

Nothing of a check runs in the thread that decodes. `lift` holds checks for LIFT's schemas.
"""
