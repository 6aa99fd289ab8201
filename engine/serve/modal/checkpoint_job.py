"""One checkpoint of a deployment's model: what is downloaded, what quantises it, where it lands.

Does not import modal; `modal_app.py` says where each step runs.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from engine.errors import ModelError
from engine.serve.modal.deployment import Deployment

USERS_MISTAKE = 2


class CheckpointJob:
    """The folder it writes is the one that `engine_config` looks for."""

    def __init__(self, deployment: Deployment, to: str, weights: str) -> None:
        """RequestError where `to` is no quantisation."""
        self._deployment = replace(deployment, quantization=to)  # type: ignore[arg-type]  # checked when it is made
        self.out = Path(weights) / self._deployment.checkpoint

    @property
    def from_hub(self) -> bool:
        """Whether the model is a hub name: the embedded one, folders and random weights need no download."""
        return re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", self._deployment.model) is not None

    @property
    def done(self) -> bool:
        """Whether the checkpoint is there, whole: its manifest is written last."""
        return (self.out / "manifest.json").is_file()

    @property
    def command(self) -> list[str]:
        """Arguments of `maskloop`."""
        told = self._deployment
        return [
            "quantize", told.model, "--revision", told.revision or "", "--to", told.quantization,
            "--out", str(self.out), "--device", "auto",
        ]  # fmt: skip

    def download(self) -> None:
        """Onto the weights volume, checked; what is there already is not fetched again.

        RuntimeError says what is wrong: an exception class of our own could not be read by who called.
        """
        from engine.model.files.hub import download

        try:
            download(self._deployment.model, self._deployment.revision or None)
        except ModelError as error:
            raise RuntimeError(error.message) from None

    def remove_source(self) -> None:
        """Delete the download: only the checkpoint is read from now on."""
        from engine.model.files.hub import remove

        remove(self._deployment.model)

    def outcome(self, code: int) -> int:
        """The exit code of what repeating cannot mend; RuntimeError, which is repeated, for anything else."""
        if code not in (0, USERS_MISTAKE):
            raise RuntimeError(f"quantising ended with exit code {code}; see the container's log")
        return code
