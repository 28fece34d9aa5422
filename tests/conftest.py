"""What holds for every test."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from hypothesis.internal.conjecture import providers

if TYPE_CHECKING:
    from tests.support.machines import Cloud, Tenancy

# The same examples in every run: what Hypothesis finds by chance must not fail somebody else's commit.
settings.register_profile("argosy", derandomize=True, deadline=None)
settings.load_profile("argosy")
# It would take constants from our modules that happen to be loaded: by this worker, which had other files before.
vars(providers)["is_local_module_file"] = lambda _path: False


def pytest_collection_finish() -> None:
    """What is loaded by now stays to the end: looking at all of it again and again is time that tests lack."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module")
def tenancy(cloud: Cloud) -> Iterator[Tenancy]:
    """On the `cloud` of the test's own place."""
    # It loads the SDK, which most tests can do without.
    from tests.support.machines import believing_its_cloud

    with believing_its_cloud(cloud) as tenancy:
        yield tenancy
