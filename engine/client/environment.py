"""The environment variables of a caller, read in one place.

`MODAL_ENDPOINT_URL` where the engine is; `MASKLOOP_PROXY_KEY` and `MASKLOOP_PROXY_SECRET` for Modal's proxy auth;
`MASKLOOP_API_KEY` for bearer keys; `MASKLOOP_MODAL_APP` the app's name. `MODAL_TOKEN_ID` and `MODAL_TOKEN_SECRET` are
read by the modal package itself. All values are read at call time, so that a late `.env` counts.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

DEFAULT_APP = "maskloop"


def endpoint_url(environ: Mapping[str, str] | None = None) -> str:
    """`MODAL_ENDPOINT_URL`; ValueError says which variable is missing."""
    url = _env(environ).get("MODAL_ENDPOINT_URL")
    if not url:
        raise ValueError("MODAL_ENDPOINT_URL is not set: give the URL that the deployment printed")
    return url


def auth_headers(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Headers for whichever credentials are set; none of them is an error."""
    env = _env(environ)
    headers: dict[str, str] = {}
    if env.get("MASKLOOP_PROXY_KEY") and env.get("MASKLOOP_PROXY_SECRET"):
        headers["Modal-Key"] = env["MASKLOOP_PROXY_KEY"]
        headers["Modal-Secret"] = env["MASKLOOP_PROXY_SECRET"]
    if env.get("MASKLOOP_API_KEY"):
        headers["Authorization"] = f"Bearer {env['MASKLOOP_API_KEY']}"
    return headers


def modal_app(environ: Mapping[str, str] | None = None) -> str:
    """The name of the deployed app."""
    return _env(environ).get("MASKLOOP_MODAL_APP") or DEFAULT_APP


def _env(environ: Mapping[str, str] | None) -> Mapping[str, str]:
    return os.environ if environ is None else environ
