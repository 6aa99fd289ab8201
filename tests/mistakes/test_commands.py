"""Every mistake at the command line is one line that names thing and place, and the right exit code: `commands.tsv`."""

from __future__ import annotations

import shlex

import pytest

from tests.cli.conftest import Run
from tests.mistakes.table import Mistake, mistakes
from tests.mistakes.world import as_ordinary_user

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("loaded")]


@pytest.mark.parametrize("mistake", mistakes("commands"), ids=lambda mistake: mistake.made)
def test_a_mistake_is_one_line(maskloop: Run, mistake: Mistake) -> None:
    with as_ordinary_user():
        ran = maskloop(*shlex.split(mistake.made))
    assert ran.code == int(mistake.code), ran.err
    assert ran.out == ""
    *progress, line = ran.err.splitlines()
    assert line.startswith("maskloop")
    assert not [early for early in progress if early.startswith(("maskloop", "Traceback", "  "))]
    for named in mistake.names:
        assert named in line
