"""Putting an image into Glance, where servers are made from it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from argosy.domain.errors import ArgosyError
from argosy.platforms.openstack.cloud import Cloud, Service
from argosy.platforms.openstack.image import facts
from argosy.platforms.openstack.image.build import Built
from argosy.platforms.openstack.image.tools import Say
from argosy.platforms.openstack.images import FACTS


@dataclass(frozen=True)
class Registered:
    """By its id in Glance. `older` are images of the same name: servers that were made from them still need them."""

    image_id: str
    name: str
    older: tuple[str, ...]


def register(cloud: Cloud, built: Built, *, name: str, direct_kernel: bool, say: Say) -> Registered:
    """Upload it with all that belongs to it, private to the project of the cloud's account.

    It is whole before it carries the tags that it is found by. What was uploaded is taken away again when something
    fails. Raises PlatformError, CloudQuotaExceeded or Unavailable, in Glance's words.
    """
    made: list[str] = []

    def upload(title: str, file: Path, disk: str, container: str = "bare", **about: Any) -> str:
        say(f"uploading {title} to Glance")

        def create(connection: Any) -> str:
            image = connection.image.create_image(
                name=title,
                filename=str(file),
                disk_format=disk,
                container_format=container,
                visibility="private",
                allow_duplicates=True,
                validate_checksum=False,
                **about,
            )
            return str(image.id)

        # Once: a second try after a lost answer would leave an image that nobody knows of.
        made.append(cloud.ask(Service.GLANCE, create, tries=1))
        return made[-1]

    older = cloud.ask(
        Service.GLANCE, lambda connection: tuple(each.id for each in connection.image.images(name=name))
    )
    properties = {"hw_rng_model": "virtio", "os_distro": "debian", "os_version": "12"}
    try:
        properties[FACTS] = upload(f"{name}-facts", built.facts, "raw")
        if direct_kernel:
            properties["kernel_id"] = upload(f"{name}-kernel", built.kernel, "aki", "aki")
            properties["ramdisk_id"] = upload(f"{name}-initrd", built.initrd, "ari", "ari")
            properties["os_command_line"] = built.options
        image_id = upload(
            name,
            built.image,
            built.kind,
            min_disk=built.size_gb,
            tags=facts.tags(built.software),
            properties=properties,
        )
    except ArgosyError:
        for left in made:
            _remove(cloud, left)
        raise
    return Registered(image_id, name, older)


def _remove(cloud: Cloud, image_id: str) -> None:
    cloud.ask(Service.GLANCE, lambda connection: connection.image.delete_image(image_id, ignore_missing=True))
