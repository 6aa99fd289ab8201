"""From the URL that generates to the URL that tells how the engine is.

Knows the four forms: Modal's label pair, `/generate`, `/generate_ir`, and a bare host. Does no I/O.
"""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit

PATHS = {"/generate": "/health", "/generate_ir": "/health_ir"}


def health_url(endpoint: str) -> str:
    """The health URL of an endpoint; only the label of a modal.run host or the last path part is ever changed."""
    parts = urlsplit(endpoint.rstrip("/"))
    host, path = parts.netloc, parts.path
    if host.endswith("generate.modal.run") and not path:
        host = host.removesuffix("generate.modal.run") + "health.modal.run"
    for generate, health in PATHS.items():
        if path.endswith(generate):
            path = path.removesuffix(generate) + health
            break
    return urlunsplit(parts._replace(netloc=host, path=path))
