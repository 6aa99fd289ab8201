"""Everything that a start imports, for a memory snapshot of a process that sees no GPU yet.

A CUDA driver that was asked once where there is no GPU keeps its answer. tvm_ffi, which XGrammar brings, asks while it
is imported, to patch versions of torch that are older than ours; this tells it not to.
"""

from __future__ import annotations

import os


def import_all() -> None:
    """Seconds; reads no setting and no file of a model."""
    os.environ["TVM_FFI_DISABLE_TORCH_C_DLPACK"] = "1"
    import engine.decode.engine
    import engine.model.cuda.cuda_loader  # noqa: F401 - what only a GPU's loader needs
