"""The converted copy of the embedded model: what is read of it as JSON is what Hugging Face's classes read."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from engine.config import EngineConfig
from engine.model.architecture.shape import Shape, is_supported
from engine.model.files import converted
from engine.model.files.converted import converted_gguf, saved_settings
from engine.model.files.source import embedded_gguf
from engine.model.tokenizer import HfTokenizer, load_tokenizer


@pytest.fixture(scope="module")
def folder() -> Path:
    return converted_gguf(embedded_gguf(), EngineConfig().cache_dir)


def test_the_settings_as_json_are_the_config(folder: Path) -> None:
    from transformers import AutoConfig

    config, settings = AutoConfig.from_pretrained(folder), saved_settings(folder)
    assert settings is not None
    assert is_supported(settings) == is_supported(config)
    assert Shape.from_config(settings) == Shape.from_config(config)
    assert settings.max_position_embeddings == config.max_position_embeddings


def test_another_file_of_the_same_name_and_size_is_converted_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(converted, "_convert", lambda path, out: (out / "kept").write_bytes(path.read_bytes()))
    file, folders = tmp_path / "model.gguf", []
    for content in (b"one", b"two", b"one"):
        file.write_bytes(content)
        folders.append(converted_gguf(file, tmp_path / "cache"))
        assert (folders[-1] / "kept").read_bytes() == content
    assert folders[0] == folders[2] != folders[1]


def test_a_config_that_leans_on_defaults_is_not_read_as_json(folder: Path, tmp_path: Path) -> None:
    settings = json.loads((folder / "config.json").read_text())
    del settings["rope_parameters"]
    (tmp_path / "config.json").write_text(json.dumps(settings))
    assert saved_settings(tmp_path) is None


def test_the_plain_tokenizer_is_the_one_that_is_looked_up(folder: Path) -> None:
    from transformers import AutoTokenizer

    ours, theirs = load_tokenizer(folder), HfTokenizer(AutoTokenizer.from_pretrained(folder))
    messages = [{"role": "user", "content": "Sum <|im_start|> of 日本 and é"}]
    assert ours.fingerprint == theirs.fingerprint
    assert ours.chat(messages) == theirs.chat(messages)
    assert ours.special_tokens == theirs.special_tokens


def test_opening_the_embedded_model_imports_no_compiler_and_no_model_class(folder: Path) -> None:
    code = (
        "import sys; from engine import Engine, EngineConfig\n"
        "Engine(EngineConfig(max_sequence=64, max_batch=1)).close()\n"
        "heavy = ('torch._dynamo', 'torch.distributed.tensor', 'transformers.modeling_utils', 'sympy')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "[]"
