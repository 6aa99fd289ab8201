"""The deployed class as any program of the same account finds it. Imports modal when it is called, never before."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from engine.errors import missing_extra


def deployed_engine(app: str) -> Any:
    """An instance of the class `Engine` of a deployed app; lazy, so what is missing shows at the first call."""
    try:
        import modal
    except ImportError:
        raise missing_extra("modal", "modal") from None
    return modal.Cls.from_name(app, "Engine")()


def load_s(engine: Any) -> float | None:
    """Seconds that the start of a deployed instance took, or None where it tells none, or does not start.

    modal.exception.NotFoundError where the app is not deployed.
    """
    import modal

    try:
        told = engine.info.remote()["load_s"]
        return float(sum(told.values()))
    except modal.exception.NotFoundError:
        raise
    except Exception:  # noqa: BLE001 - what does not start is told by the first request
        return None


@contextmanager
def exit_where_absent(app: str) -> Iterator[None]:
    """For an entry point: an app that is not deployed ends the program with one line that says how to deploy it."""
    import modal

    try:
        yield
    except modal.exception.NotFoundError:
        raise SystemExit(f"{app!r} is not deployed: modal deploy modal_app.py, or try with --ephemeral") from None
