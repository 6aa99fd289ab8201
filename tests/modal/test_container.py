"""What a container of the plane is made of: what was uploaded, the image's packages and variables, nothing of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.modal.control_plane.environments import canonical
from tests.modal.control_plane.launcher import HERE
from tests.modal.control_plane.plane import ROOT


def test_a_container_sees_what_was_uploaded_and_not_the_checkout(probe: Any) -> None:
    seen = probe.look.remote(str(ROOT), str(Path(__file__).resolve()), "/root/probe_app.py", "/etc/passwd")
    assert seen["there"] == ["/root/probe_app.py", "/etc/passwd"]
    assert seen["folder"] == "/root"
    assert set(seen["home"]) <= {"probe_app.py", "__pycache__", ".pyenv", ".local", ".venv"}  # an interpreter's home


def test_a_container_has_the_packages_of_its_image_beside_modals_own(probe: Any) -> None:
    seen = probe.look.remote()
    assert {canonical(name) for name in seen["installed"]} == HERE.closure(["modal"])
    assert "torch" not in seen["installed"]


def test_a_container_has_the_variables_of_image_and_platform_only(probe: Any) -> None:
    ours = [name for name in probe.look.remote()["environment"] if not name.startswith("MODAL_")]
    assert set(ours) <= {"HOME", "LANG", "PATH", "PWD", "PYTHONPATH", "LC_CTYPE"}
