"""What `modal deploy modal_app.py` sends, as the plane received it."""

from __future__ import annotations

import modal
import pytest

from tests.modal.conftest import Deploy
from tests.modal.plane import Plane


def test_health_answers_from_an_image_of_its_own_packages_without_an_engine(plane: Plane, deploy: Deploy) -> None:
    deploy("quiet")
    told = modal.Function.from_name("quiet", "state", client=plane.client).remote()
    assert (told["state"], told["status"]) == ("cold", "healthy")
    assert plane.function("quiet", "Engine.*").containers == []


def test_an_app_that_is_not_there_is_not_found(plane: Plane) -> None:
    with pytest.raises(modal.exception.NotFoundError):
        plane.cls("nowhere").info.remote()
