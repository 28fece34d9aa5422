"""What an image says of itself: to the agent on the machine, to the control plane, and to people."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import argosy
from argosy.domain.guest import RELEASE
from argosy.platforms.openstack.image.packages import PackageList
from argosy.platforms.openstack.image.software import Software
from argosy.platforms.openstack.images import TAG, tag_of

FORMAT = 1


def tags(software: Sequence[Software]) -> list[str]:
    """What an image is found by in Glance."""
    return [TAG, *(tag_of(each.version.datastore, each.version.name) for each in software)]


def for_the_agent(software: Sequence[Software], agent: str) -> str:
    """`/etc/argosy/image.json`."""
    return _text({
        "format": FORMAT,
        "argosy": _version(),
        "release": RELEASE,
        "agent": agent,
        "software": [each.entry for each in software],
    })  # fmt: skip


def for_the_control_plane(
    software: Sequence[Software], agent: str, packages: PackageList, *, tree: str, image: str, kernel: str
) -> str:
    """`tree` is the digest of the files, `image` that of the image's own file; SHA-256, hex."""
    return _text({
        "format": FORMAT,
        "argosy": _version(),
        "release": RELEASE,
        "agent": agent,
        "software": [
            each.entry
            | {"source": each.manifest["source"], "packages": each.manifest["packages"]}
            for each in software
        ],
        "parameters": {
            f"{each.version.datastore}/{each.version.name}": each.parameters.to_text()
            for each in software
            if each.parameters is not None
        },
        "kernel": kernel,
        "packages": packages.text().splitlines(),
        "tree": tree,
        "sha256": image,
    })  # fmt: skip


def _version() -> str:
    from importlib.metadata import version

    return version(argosy.__name__)


def _text(facts: dict[str, Any]) -> str:
    return json.dumps(facts, indent=1, ensure_ascii=False) + "\n"
