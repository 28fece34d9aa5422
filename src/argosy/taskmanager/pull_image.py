"""Make the software of a version ready, so that its first instance need not wait for it."""

from __future__ import annotations

from collections.abc import Iterator

from argosy.domain.operations import PullImage
from argosy.taskmanager.steps import images
from argosy.taskmanager.workflow import workflow


@workflow(PullImage, "getting the software")
def pull_image(asked: PullImage) -> Iterator[None]:
    """Pull it, or find that it is there. One that failed earlier is tried again."""
    yield
    images.wait_until_ready(asked.operation_id, asked.datastore, asked.version)
    images.publish()
