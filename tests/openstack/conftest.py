"""On a real cloud: `make test-openstack`. Skipped where ARGOSY_TEST_CLOUD names none."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.support.machines import Cloud, running_on
from tests.support.server import Client, Server


@pytest.fixture(scope="session")
def cloud() -> Cloud:
    if "ARGOSY_TEST_CLOUD" not in os.environ:
        pytest.skip("ARGOSY_TEST_CLOUD names no cloud")
    return Cloud.real()


@pytest.fixture(scope="module")
def argosy(cloud: Cloud) -> Iterator[Server]:
    with running_on(cloud) as server:
        yield server


@pytest.fixture(scope="module")
def demo(argosy: Server) -> Client:
    return argosy.client("demo")
