"""Every mistake in Python raises the error that says what it is, in one line that names it: `python.tsv`."""

from __future__ import annotations

from pathlib import Path

import pytest

import engine as package
from engine import Engine, EngineError
from tests.mistakes.table import Mistake, mistakes

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("loaded")]
NAMES = {name: getattr(package, name) for name in package.__all__} | {"Path": Path}


@pytest.mark.parametrize("mistake", mistakes("python"), ids=lambda mistake: mistake.made)
def test_a_mistake_is_one_typed_error(engine: Engine, mistake: Mistake) -> None:
    with pytest.raises(EngineError) as caught:
        eval(mistake.made, NAMES | {"engine": engine})
    assert caught.value.type == mistake.code
    line = caught.value.message
    assert line
    assert "\n" not in line
    for named in mistake.names:
        assert named in line
