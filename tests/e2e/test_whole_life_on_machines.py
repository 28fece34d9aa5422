"""All that tests/openstack asks of a real cloud's machines, on simulated ones: minutes for each datastore, so not every day."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.openstack import test_full_surface
from tests.support.machines import Cloud, Tenancy, simulated
from tests.support.server import Client, Server

pytestmark = [
    pytest.mark.skipif("ARGOSY_TEST_LONG" not in os.environ, reason="ARGOSY_TEST_LONG is not set"),
    pytest.mark.skipif(os.geteuid() != 0, reason="agents give their servers accounts of their own"),
]
test_an_instance_lives_on_machines_as_it_does_here = (
    test_full_surface.test_an_instance_lives_on_machines_as_it_does_here_and_leaves_nothing
)


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    images = [f"{datastore} {old} {new}" for datastore, (old, new, _) in test_full_surface.KINDS.items()]
    with simulated(*images) as (cloud, _):
        yield cloud


@pytest.fixture(scope="module")
def argosy(tenancy: Tenancy) -> Server:
    return tenancy.argosy


@pytest.fixture(scope="module")
def demo(argosy: Server) -> Client:
    return argosy.client("demo")
