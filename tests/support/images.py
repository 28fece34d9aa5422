"""Images for tests that run real engines, pulled once per machine and shared by every test run on it."""

from __future__ import annotations

import os
import sys
from functools import cache
from pathlib import Path

from argosy.catalog import datastores
from argosy.domain.datastore import Version
from argosy.platforms.base import ImagePhase
from argosy.platforms.local.images import LocalImages
from argosy.platforms.local.templates import template_builder, template_recipe

# `nobody`, as every Linux has it: servers refuse root, and a template's owner does not matter to its clones.
ACCOUNT = (65534, 65534) if os.geteuid() == 0 else None


def root() -> Path:
    return Path(os.environ.get("ARGOSY_TEST_IMAGES") or f"/var/tmp/argosy-images-{os.getuid()}")


def engine_of(version: Version) -> str:
    return datastores()[version.datastore].engine


@cache
def images() -> LocalImages:
    return LocalImages(
        root(),
        build_template=template_builder(Path(sys.executable), engine_of, ACCOUNT),
        recipe=template_recipe(engine_of),
    )


def image(datastore: str, version: str) -> tuple[Path, Path]:
    """The bundle and the template of a version, pulled unless they are there. The template is for cloning only."""
    wanted = datastores()[datastore].version(version)
    pull(images(), wanted)
    return images().bundle(wanted), images().template(wanted)


def pull(shelf: LocalImages, version: Version, timeout_s: float = 280) -> None:
    """Raises AssertionError with the reason when the image cannot be had."""
    shelf.begin(version)
    state = shelf.wait(version, timeout_s)
    assert state.phase is ImagePhase.READY, state.detail
