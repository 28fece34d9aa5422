"""One simulated cloud for the tests of a file, empty again after each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.cloud import SimulatedCloud
from tests.support.openstack_installation import simulated_cloud


@pytest.fixture(scope="module")
def served() -> Iterator[SimulatedCloud]:
    with simulated_cloud() as cloud:
        yield cloud


@pytest.fixture
def cloud(served: SimulatedCloud) -> Iterator[SimulatedCloud]:
    yield served
    served.clear()
