"""Sealed files are read and written only where nobody else could have put them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine.grammar.sealed_files import read_sealed, seal, write_sealed

NOBODY = 65_534


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "grammars"
    made.mkdir(mode=0o700)
    return made


def another_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on this process is somebody else, as far as it can tell; the tests need not run as root."""
    monkeypatch.setattr(os, "geteuid", lambda: NOBODY)


def test_what_was_written_is_read(folder: Path) -> None:
    assert write_sealed(folder / "a", b"content")
    assert read_sealed(folder / "a") == b"content"
    assert folder.stat().st_mode & 0o777 == 0o700


def test_somebody_elses_folder_is_neither_read_nor_written_nor_tidied(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert write_sealed(folder / "a", b"content")
    (folder / "damaged").write_bytes(b"x")
    another_user(monkeypatch)
    assert read_sealed(folder / "a") is None
    assert read_sealed(folder / "damaged") is None
    assert not write_sealed(folder / "b", b"content")
    assert sorted(path.name for path in folder.iterdir()) == ["a", "damaged"]


def test_a_file_that_others_may_write_is_not_read(folder: Path) -> None:
    assert write_sealed(folder / "a", b"content")
    (folder / "a").chmod(0o622)
    assert read_sealed(folder / "a") is None


def test_a_folder_that_others_may_write_is_closed_to_them_before_it_is_used(folder: Path) -> None:
    (folder / "planted").write_bytes(seal(b"planted"))
    folder.chmod(0o777)
    assert read_sealed(folder / "planted") is None
    assert write_sealed(folder / "a", b"content")
    assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_that_somebody_else_planted_is_not_read(folder: Path) -> None:
    (folder / "planted").write_bytes(seal(b"planted"))
    os.chown(folder / "planted", NOBODY, NOBODY)
    assert read_sealed(folder / "planted") is None
