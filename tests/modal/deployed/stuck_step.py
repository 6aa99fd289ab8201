"""Lies on a container's path as `sitecustomize`: after SIGUSR2 no decode step returns, as when a GPU hangs.

A GPU that hangs cannot be had here. Everything that follows in the container is the product's own doing; the watchdog's
minute of patience is cut to a second.
"""

from __future__ import annotations

import signal
import threading
from typing import Any


def hang(*_: Any) -> None:
    from engine.decode.step.loop import Loop
    from engine.serve.settings import ServeSettings

    Loop.step = lambda self: threading.Event().wait()
    ServeSettings.wedged_after_s = 1.0


signal.signal(signal.SIGUSR2, hang)
