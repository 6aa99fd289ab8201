from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers.utils import logging as hf_logging

from tests.model import tiny_moe


@pytest.fixture(autouse=True, scope="session")
def _quiet_transformers() -> None:
    hf_logging.disable_progress_bar()
    hf_logging.set_verbosity_error()
    torch.set_num_threads(1)  # tiny products: threads cost more than they give, most of all on a busy machine


@pytest.fixture(scope="session")
def moe_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny Qwen3-MoE as a sharded Hugging Face checkpoint; read-only."""
    return tiny_moe.save(tmp_path_factory.mktemp("tiny-moe"))
