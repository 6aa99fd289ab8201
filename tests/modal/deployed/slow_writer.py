"""Lies on a container's path as `sitecustomize`: a checkpoint is written a weight a file, and stops after three for as
long as PAUSE exists.

The real sizes are 2 GB a file and minutes a step, so that a step can be killed half-way; a tiny model is written in one
file, in milliseconds. Everything else of the step is the product's own doing.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from modal_proto import api_pb2 as pb

PAUSE = Path("/weights/pause")
FILES = 3


def slow() -> None:
    from engine.model.checkpoint import checkpoint_writer

    class Writer(checkpoint_writer.CheckpointWriter):
        def __init__(self, *arguments: Any, **settings: Any) -> None:
            super().__init__(*arguments, **{**settings, "file_bytes": 1})

    def save_file(tensors: Any, path: Path, save: Any = checkpoint_writer.save_file) -> None:
        while path.name >= f"weights-{FILES:05d}" and PAUSE.exists():
            time.sleep(0.02)
        save(tensors, path)

    checkpoint_writer.CheckpointWriter, checkpoint_writer.save_file = Writer, save_file


if "MODAL_CONTAINER_ARGUMENTS_PATH" in os.environ:
    told = pb.ContainerArguments.FromString(Path(os.environ["MODAL_CONTAINER_ARGUMENTS_PATH"]).read_bytes())
    if told.function_def.function_name == "run_module":
        slow()
