"""Fixtures: everything that can be rendered, and the objects in it."""

from collections.abc import Sequence

import pytest

from tests.k8s.render import Choice, Manifest, list_choices, render


@pytest.fixture(params=list_choices(), ids=str)
def choice(request: pytest.FixtureRequest) -> Choice:
    chosen: Choice = request.param
    return chosen


@pytest.fixture
def objects(choice: Choice) -> Sequence[Manifest]:
    return render(choice)
