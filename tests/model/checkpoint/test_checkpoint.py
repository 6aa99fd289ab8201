"""Engine checkpoints: what is written is what is read, and every kind of damage is named with its file and way out."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors import safe_open

from engine.errors import ModelError
from engine.model.checkpoint import checkpoint_writer, parallel_read
from engine.model.checkpoint import manifest as manifest_module
from engine.model.checkpoint.checkpoint import load_checkpoint, save_checkpoint
from engine.model.checkpoint.manifest import MANIFEST, Manifest, read_manifest
from engine.model.weights.inventory import Weight
from engine.model.weights.quantized_tensor import QuantizedTensor
from engine.model.weights.rounding import quantize_tensor
from tests.model.tiny_moe import FORMATS


def some_weights(quantization: str = "nf4") -> dict[str, Weight]:
    """Odd sizes, so that parts begin at addresses that are no multiple of 16."""
    generator = torch.Generator().manual_seed(11)
    return {
        "model.norm.weight": torch.randn(7, generator=generator).bfloat16(),
        "model.layers.0.mlp.up_proj.weight": quantize_tensor(torch.randn(3, 70, generator=generator), quantization),
        "model.layers.0.mlp.experts.down_proj": quantize_tensor(
            torch.randn(3, 5, 96, generator=generator), quantization
        ),
        "model.embed_tokens.weight": torch.randn(9, 5, generator=generator),
    }


def write(out: Path, quantization: str = "nf4", **settings: int) -> Path:
    manifest = Manifest(model="tiny", revision="abc", quantization=quantization)
    save_checkpoint(out, some_weights(quantization), manifest, **settings)
    return out


def assert_equal(found: Weight, expected: Weight) -> None:
    if isinstance(expected, QuantizedTensor):
        assert isinstance(found, QuantizedTensor)
        assert (found.shape, found.format) == (expected.shape, expected.format)
        assert all(torch.equal(found.parts()[name], part) for name, part in expected.parts().items())
        assert all(part.data_ptr() % 16 == 0 for part in found.parts().values())
    else:
        assert isinstance(found, torch.Tensor)
        assert found.dtype == expected.dtype
        assert torch.equal(found, expected)
        assert found.data_ptr() % 16 == 0


@pytest.mark.parametrize("file_bytes", [1, 400, 1 << 30])
@pytest.mark.parametrize("quantization", FORMATS)
def test_what_is_written_is_read(quantization: str, file_bytes: int, tmp_path: Path) -> None:
    loaded = load_checkpoint(write(tmp_path / "out", quantization, file_bytes=file_bytes), "cpu")
    expected = some_weights(quantization)
    assert loaded.tensors.keys() == expected.keys()
    for name, weight in expected.items():
        assert_equal(loaded.tensors[name], weight)
    assert (loaded.manifest.model, loaded.manifest.revision) == ("tiny", "abc")
    assert len(loaded.manifest.files) == {1: 4, 400: 2}.get(file_bytes, 1)


def test_files_are_plain_safetensors_and_hashes_are_sha256sum(tmp_path: Path) -> None:
    out = write(tmp_path / "out")
    (entry,) = read_manifest(out).files
    assert hashlib.sha256((out / entry.name).read_bytes()).hexdigest() == entry.sha256
    with safe_open(out / entry.name, "pt") as file:
        assert "model.layers.0.mlp.experts.down_proj.packed" in file.keys()  # noqa: SIM118 - not a dict
    assert sorted(path.name for path in out.iterdir()) == [MANIFEST, entry.name]


def test_a_large_file_is_read_in_pieces_by_many_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint_writer, "HASH_CHUNK", 1000)
    monkeypatch.setattr(parallel_read, "HASH_CHUNK", 1000)
    monkeypatch.setattr("engine.model.checkpoint.manifest.HASH_CHUNK", 1000)
    weight = torch.randn(123, 457)
    save_checkpoint(tmp_path / "out", {"model.embed_tokens.weight": weight}, Manifest(model="m"))
    assert len(read_manifest(tmp_path / "out").files[0].chunks) > 200
    for threads in (1, 13):
        assert_equal(
            load_checkpoint(tmp_path / "out", "cpu", threads=threads).tensors["model.embed_tokens.weight"], weight
        )


def weight_file(out: Path) -> Path:
    return next(out.glob("*.safetensors"))


def flip_byte(out: Path) -> None:
    path = weight_file(out)
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)


def cut_short(out: Path) -> None:
    path = weight_file(out)
    path.write_bytes(path.read_bytes()[:-1])


def append(out: Path) -> None:
    path = weight_file(out)
    path.write_bytes(path.read_bytes() + b"x")


def edit_manifest(out: Path, **changes: object) -> None:
    plain = json.loads((out / MANIFEST).read_text())
    (out / MANIFEST).write_text(json.dumps({**plain, **changes}))


def move_file_outside(out: Path) -> None:
    plain = json.loads((out / MANIFEST).read_text())
    shutil.copy(weight_file(out), out.parent / "outside.safetensors")
    edit_manifest(out, files=[{**plain["files"][0], "name": "../outside.safetensors"}])


def drop_hash(out: Path) -> None:
    plain = json.loads((out / MANIFEST).read_text())
    edit_manifest(out, files=[{**plain["files"][0], "chunks": []}])


DAMAGE = {
    "a flipped byte": (flip_byte, r"weights-00000\.safetensors is damaged: bytes 0 to \d+ do not have the sha256"),
    "a truncated file": (cut_short, r"weights-00000\.safetensors is truncated"),
    "a file too long": (append, r"weights-00000\.safetensors is too long"),
    "a missing file": (lambda out: weight_file(out).unlink(), r"weights-00000\.safetensors is missing"),
    "no manifest": (lambda out: (out / MANIFEST).unlink(), r"has no manifest\.json.*quantize"),
    "a manifest of the future": (lambda out: edit_manifest(out, format_version=2), r"format version 2.*reads 1"),
    "a manifest without version": (lambda out: edit_manifest(out, format_version=None), "format version None"),
    "a manifest that is no JSON": (lambda out: (out / MANIFEST).write_text("{"), r"manifest\.json cannot be read"),
    "a manifest that is a list": (lambda out: (out / MANIFEST).write_text("[]"), "format version None"),
    "a file outside the folder": (move_file_outside, r"manifest\.json is damaged"),
    "pieces without a hash": (drop_hash, r"manifest\.json is damaged"),
    "an unknown format": (
        lambda out: edit_manifest(out, tensors={"x": {"format": "nf5", "shape": [1, 1]}}),
        r"manifest\.json is damaged",
    ),
    "a weight nobody stored": (
        lambda out: edit_manifest(out, tensors={"x": {"format": "nf4", "shape": [1, 64]}}),
        r"x\.packed is absent",
    ),
}


def test_the_next_piece_is_read_while_hashes_are_still_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every hash waits until all pieces have been read: a reader that waited for a hash would wait for ever."""
    monkeypatch.setattr(checkpoint_writer, "HASH_CHUNK", 1000)
    monkeypatch.setattr(parallel_read, "HASH_CHUNK", 1000)
    monkeypatch.setattr(manifest_module, "HASH_CHUNK", 1000)
    weight = torch.arange(5000, dtype=torch.float32).view(50, 100)
    save_checkpoint(tmp_path / "out", {"model.embed_tokens.weight": weight}, Manifest(model="m"))
    unread, all_read = [21], threading.Event()

    def fill(piece: object, view: object, original: Any = parallel_read._fill) -> None:
        original(piece, view)
        unread[0] -= 1
        if not unread[0]:
            all_read.set()

    def sha256(data: bytes, original: Any = hashlib.sha256) -> Any:
        assert all_read.wait(10)
        return original(data)

    monkeypatch.setattr(parallel_read, "_fill", fill)
    monkeypatch.setattr(parallel_read.hashlib, "sha256", sha256)
    loaded = load_checkpoint(tmp_path / "out", "cpu", threads=1)
    assert_equal(loaded.tensors["model.embed_tokens.weight"], weight)


@pytest.fixture
def pinned(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The way of a GPU's pieces without a GPU: host buffers that are not pinned, streams that do nothing."""
    done: list[str] = []
    stream = SimpleNamespace(synchronize=lambda: done.append("synchronize"))
    cuda = SimpleNamespace(Stream=lambda device: stream, stream=lambda stream: contextlib.nullcontext())
    fake = SimpleNamespace(
        cuda=cuda, uint8=torch.uint8, device=torch.device,
        empty=lambda size, dtype, pin_memory: done.append("buffer") or torch.empty(size, dtype=dtype),
    )  # fmt: skip
    monkeypatch.setattr(parallel_read, "torch", fake)
    monkeypatch.setattr(parallel_read, "HASH_CHUNK", 1000)
    return done


@pytest.mark.parametrize("damaged", [None, 0, 70])
def test_pieces_for_a_gpu_share_few_buffers_and_a_damaged_one_ends_the_read(
    damaged: int | None, pinned: list[str], tmp_path: Path
) -> None:
    data = torch.randint(0, 255, (99_500,), dtype=torch.uint8)
    (tmp_path / "file").write_bytes(data.numpy().tobytes())
    chunks = [hashlib.sha256(data[start : start + 1000].numpy()).hexdigest() for start in range(0, len(data), 1000)]
    if damaged is not None:
        chunks[damaged] = "0" * 64
    target = torch.zeros_like(data)
    with (tmp_path / "file").open("rb") as file:
        pieces = [
            parallel_read.Piece(tmp_path / "file", file.fileno(), part, 1000 * index, digest)
            for index, (part, digest) in enumerate(zip(target.split(1000), chunks, strict=True))
        ]
        if damaged is None:
            with parallel_read.PieceReader("cuda", 3) as reader:
                reader.start(pieces)()
            assert torch.equal(target, data)
        else:
            with (
                pytest.raises(ModelError, match=f"bytes {damaged * 1000} to {damaged * 1000 + 999} "),
                parallel_read.PieceReader("cuda", 3) as reader,
            ):
                reader.start(pieces)()
    assert pinned.count("buffer") <= 3 + min(8, os.cpu_count() or 1)


@pytest.mark.parametrize("name", list(DAMAGE))
def test_damage_is_named_with_the_file_and_the_way_out(name: str, tmp_path: Path) -> None:
    damage, message = DAMAGE[name]
    out = write(tmp_path / "out")
    damage(out)
    with pytest.raises(ModelError, match=message) as caught:
        load_checkpoint(out, "cpu")
    assert str(tmp_path) in caught.value.message
    assert "maskloop quantize" in caught.value.message
    assert caught.value.param == "model"


def test_a_header_that_lies_is_refused_even_without_hashes(tmp_path: Path) -> None:
    out = write(tmp_path / "out")
    path = weight_file(out)
    data = path.read_bytes()
    for broken in (
        data.replace(b'"F32"', b'"F64"', 1),
        data.replace(b"data_offsets", b"data_offsetz", 1),
        (1 << 62).to_bytes(8, "little") + data[8:],
        data[:8] + b"\xff" * 8 + data[16:],
    ):
        assert len(broken) == len(data)
        path.write_bytes(broken)
        with pytest.raises(ModelError, match=r"weights-00000\.safetensors is damaged"):
            load_checkpoint(out, "cpu", verify=False)


def test_weights_that_are_not_in_the_manifests_format_are_refused(tmp_path: Path) -> None:
    out = write(tmp_path / "out", "nf4")
    edit_manifest(out, quantization="int8")
    with pytest.raises(ModelError, match=r"up_proj\.weight \(210 weights\) is nf4, not int8"):
        load_checkpoint(out, "cpu")


def test_a_folder_that_is_taken_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("precious")
    with pytest.raises(ModelError, match=r"out exists and is not empty"):
        write(tmp_path / "out")
    assert (tmp_path / "out" / "thesis.txt").read_text() == "precious"


def test_an_interruption_leaves_nothing_that_loads(tmp_path: Path) -> None:
    def weights() -> Iterator[tuple[str, Weight]]:
        yield from list(some_weights().items())[:2]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(tmp_path / "out", weights(), Manifest(model="tiny", quantization="nf4"), file_bytes=1)
    assert not (tmp_path / "out").exists()
    with pytest.raises(ModelError, match=r"has no manifest\.json"):
        load_checkpoint(tmp_path / "out.partial", "cpu")


def test_the_same_write_goes_on_after_the_last_finished_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Iterator[tuple[str, Weight]]:
        yield from list(some_weights().items())[:2]
        raise KeyboardInterrupt

    manifest = Manifest(model="tiny", revision="abc", quantization="nf4")
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(tmp_path / "out", broken(), manifest, file_bytes=1)
    writes: list[str] = []
    original = checkpoint_writer.save_file
    monkeypatch.setattr(
        checkpoint_writer, "save_file", lambda tensors, path: (writes.append(path.name), original(tensors, path))
    )
    write(tmp_path / "out", file_bytes=1)
    assert writes == ["weights-00002.safetensors", "weights-00003.safetensors"]
    loaded = load_checkpoint(tmp_path / "out", "cpu")
    for name, weight in some_weights().items():
        assert_equal(loaded.tensors[name], weight)


def test_another_write_does_not_go_on_where_the_first_one_stopped(tmp_path: Path) -> None:
    def broken() -> Iterator[tuple[str, Weight]]:
        yield from list(some_weights("fp4").items())[:2]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(tmp_path / "out", broken(), Manifest(model="tiny", quantization="fp4"), file_bytes=1)
    loaded = load_checkpoint(write(tmp_path / "out", "nf4"), "cpu")
    assert_equal(loaded.tensors["model.norm.weight"], some_weights()["model.norm.weight"])


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), OSError(errno.EACCES, "Denied")])
def test_a_full_disk_is_a_clear_error_and_the_way_out_works(
    error: OSError, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(tensors: object, path: Path) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_writer, "save_file", refuse)
        reason = "the disk is full" if error.errno == errno.ENOSPC else "Denied"
        with pytest.raises(ModelError, match=f"{reason}.*run the same command again") as caught:
            write(tmp_path / "out")
    assert caught.value.param == "out"
    assert not (tmp_path / "out").exists()
    load_checkpoint(write(tmp_path / "out"), "cpu")


def test_too_little_space_is_said_before_the_work_and_refuses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = checkpoint_writer.CheckpointWriter(tmp_path / "out", Manifest(model="m"))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=2 << 30))
    assert writer.short_of_space(1 << 30) is None
    assert "have 2.00 GiB free, about 3.00 GiB are needed; going on" in str(writer.short_of_space(3 << 30))


def test_a_finished_file_that_a_mount_spoilt_is_written_again_and_the_others_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> Iterator[tuple[str, Weight]]:
        yield from list(some_weights().items())[:3]
        raise KeyboardInterrupt

    manifest = Manifest(model="tiny", revision="abc", quantization="nf4")
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(tmp_path / "out", broken(), manifest, file_bytes=1)
    partial = tmp_path / "out.partial"
    (partial / "weights-00000.safetensors").unlink()
    spoilt = partial / "weights-00001.safetensors"
    spoilt.write_bytes(spoilt.read_bytes()[:-1] + b"?")
    writes: list[str] = []
    original = checkpoint_writer.save_file
    monkeypatch.setattr(
        checkpoint_writer, "save_file", lambda tensors, path: (writes.append(path.name), original(tensors, path))
    )
    write(tmp_path / "out", file_bytes=1)
    assert writes == [f"weights-0000{n}.safetensors" for n in (0, 1, 3)]
    loaded = load_checkpoint(tmp_path / "out", "cpu")
    for name, weight in some_weights().items():
        assert_equal(loaded.tensors[name], weight)


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP])
def test_a_mount_that_cannot_sync_a_folder_does_not_fail_a_finished_checkpoint(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fsync(descriptor: int) -> None:
        raise OSError(code, "not on this mount")

    monkeypatch.setattr(os, "fsync", fsync)
    load_checkpoint(write(tmp_path / "out"), "cpu")


def test_a_manifest_survives_its_file(tmp_path: Path) -> None:
    manifest = replace(read_manifest(write(tmp_path / "out")), seed=5)
    manifest.write(tmp_path)
    assert read_manifest(tmp_path) == manifest
