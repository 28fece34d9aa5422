"""Images in Glance, as `argosy image build --register` leaves them there, and what each of them holds.

An image is ours by the tag `argosy`, and by one such as `argosy:postgresql:17` for each version it holds; of several the
newest counts. Its property `argosy_facts` is the id of a small image beside it, which holds JSON::

    {"software": [{"datastore": "postgresql", "version": "17", "series": "17",
                   "bundle": "/opt/argosy/software/postgresql/17/bundle", "template": "/opt/argosy/…/template"}, …],
     "parameters": {"postgresql/17": "<a Catalogue as text>", …}}

In a cloud with other tenants anybody may give an image these tags, so only those of our own project count, and public
ones, which administrators alone make.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from openstack.connection import Connection

from argosy.domain.datastore import Version
from argosy.domain.errors import ImageUnavailable
from argosy.domain.parameters import Catalogue
from argosy.platforms.base import ImagePhase, ImageState, Software
from argosy.platforms.openstack.cloud import Cloud, Remembered, Service

TAG = "argosy"
FACTS = "argosy_facts"
_FACTS_MAX = 32 * 2**20  # bytes
# It is asked for at every sweep.
_OFTEN_S = 20.0


def tag_of(datastore: str, version: str) -> str:
    return f"{TAG}:{datastore}:{version}"


@dataclass(frozen=True)
class Image:
    id: str
    name: str
    created_at: str
    tags: frozenset[str]
    facts: str | None


@dataclass(frozen=True)
class Facts:
    """What an image holds: where a guest finds the software of each version, and what its servers told of parameters."""

    software: Sequence[Mapping[str, Any]]
    parameters: Mapping[str, Catalogue] = field(default_factory=dict)

    @classmethod
    def of(cls, text: bytes) -> Facts:
        stored = json.loads(text)
        parameters = {name: Catalogue.from_text(one) for name, one in stored.get("parameters", {}).items()}
        return cls(list(stored["software"]), parameters)

    def of_version(self, version: Version) -> Mapping[str, Any] | None:
        """By its own name, else by that of the catalog's version which it is like."""
        for one in self.software:
            if (one["datastore"], one["version"]) == (version.datastore, version.name):
                return one
        return next(
            (one for one in self.software if version.own_id and one["series"] == version.series), None
        )


class OpenStackImages:
    """Methods may be called from any thread."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._lock = threading.Lock()
        self._listed = Remembered(self._list, _OFTEN_S)
        # What an image's facts are never changes; read once in a process's life.
        self._facts: dict[str, Facts] = {}
        self._unreadable: dict[str, tuple[ImageUnavailable, float]] = {}

    def begin(self, version: Version) -> None:  # noqa: ARG002 - see below
        """An image is made by an operator, so there is nothing to begin: what was made just now is seen at once."""
        self._listed.forget()

    def state(self, version: Version) -> ImageState:
        try:
            image = self.image([version])
        except ImageUnavailable as error:
            return ImageState(ImagePhase.FAILED, error.sentence)
        return ImageState(ImagePhase.READY, source=f"image {image.name} ({image.id})")

    def parameters(self, version: Version) -> Catalogue | None:
        try:
            facts = self.facts(self.image([version]))
        except ImageUnavailable:
            return None
        held = facts.of_version(version)
        return None if held is None else facts.parameters.get(f"{held['datastore']}/{held['version']}")

    def image(self, versions: Sequence[Version]) -> Image:
        """The one to boot a server from that is to have all these, of which the first is its own. Raises ImageUnavailable."""
        own = versions[0]
        if own.image is not None:
            found = [one for one in self._listed.get() if one.id == own.image] or self._by_id(own.image)
            if not found:
                raise ImageUnavailable(
                    f"{_shown(own)} is to boot from image {own.image}, which is not there, not active, or neither of our "
                    "project nor public."
                )
            return found[0]
        wanted = {tag for version in versions for tag in _tags(version)}
        fitting = [one for one in self._listed.get() if wanted <= one.tags]
        if not fitting:
            raise ImageUnavailable(_missing(versions))
        return max(fitting, key=lambda one: (one.created_at, one.id))

    def facts(self, image: Image) -> Facts:
        """Raises ImageUnavailable when it does not tell."""
        if image.facts is None:
            raise ImageUnavailable(
                f"Image {image.name} ({image.id}) does not tell what it holds (property {FACTS}): register it with "
                "`argosy image build … --register`."
            )
        with self._lock:
            known = self._facts.get(image.id)
            if known is None:
                failed = self._unreadable.get(image.id)
                if failed is not None and time.monotonic() < failed[1]:
                    raise failed[0]
                try:
                    known = self._facts[image.id] = self._read(image, image.facts)
                except ImageUnavailable as error:
                    self._unreadable[image.id] = (error, time.monotonic() + _OFTEN_S)
                    raise
        return known

    def held(self, image_id: str | None, version: Version) -> Software | None:
        """The software of a version in the image that a server was booted from, by a guest's paths; None when it has none."""
        found = (
            []
            if image_id is None
            else [one for one in self._listed.get() if one.id == image_id] or self._by_id(image_id)
        )
        held = self.facts(found[0]).of_version(version) if found else None
        return None if held is None else Software(version.series, held["bundle"], held["template"])

    def _list(self) -> list[Image]:
        def look(cloud: Connection) -> list[Image]:
            own = cloud.image.images(status="active", owner=cloud.current_project_id)
            public = cloud.image.images(status="active", visibility="public")
            return [_image(one) for one in (*own, *public) if one.tags]

        # It is asked by those who do other things besides, and by steps that are tried again.
        return self._cloud.ask(Service.GLANCE, look, tries=2)

    def _by_id(self, image_id: str) -> list[Image]:
        """One without our tags, or that is hidden, counts where it is named."""

        def look(cloud: Connection) -> list[Image]:
            one = cloud.image.find_image(image_id)
            return (
                [_image(one)]
                if one is not None and one.status == "active" and _is_trusted(cloud, one)
                else []
            )

        return self._cloud.ask(Service.GLANCE, look)

    def _read(self, image: Image, facts_id: str) -> Facts:
        def read(cloud: Connection) -> Facts:
            beside = cloud.image.find_image(facts_id)
            if beside is None or beside.status != "active" or (beside.size or 0) > _FACTS_MAX:
                raise ImageUnavailable(
                    f"The facts of image {image.name} ({image.id}) are gone (image {facts_id}): register it anew."
                )
            try:
                return Facts.of(cloud.image.download_image(facts_id).content)
            except (ValueError, KeyError, TypeError) as error:
                raise ImageUnavailable(
                    f"The facts of image {image.name} ({image.id}) cannot be read: {error!r}. Register it anew."
                ) from error

        return self._cloud.ask(Service.GLANCE, read)


def _image(one: Any) -> Image:
    return Image(
        one.id, one.name or one.id, one.created_at or "", frozenset(one.tags or ()), one.properties.get(FACTS)
    )


def _is_trusted(cloud: Connection, one: Any) -> bool:
    return one.visibility == "public" or str(one.owner_id) == cloud.current_project_id


def _tags(version: Version) -> set[str]:
    """What an image of it carries: an operator may have named tags of a version of their own."""
    if version.own_id and version.tags:
        return set(version.tags)
    return {TAG, tag_of(version.datastore, version.name)}


def _missing(versions: Sequence[Version]) -> str:
    own = versions[0]
    if len(versions) > 1:
        both = " and ".join(_shown(version) for version in versions)
        return (
            f"No image in Glance holds {both}, as an upgrade needs: make one with "
            f"`argosy image build {own.datastore} {' '.join(version.name for version in versions)} --register`."
        )
    if own.own_id and own.tags:
        return f"No image in Glance has the tags of {_shown(own)} ({', '.join(own.tags)}): give one these, or the version others."
    return (
        f"No image in Glance is tagged {tag_of(own.datastore, own.name)}: make one with "
        f"`argosy image build {own.datastore} {own.name} --register`."
    )


def _shown(version: Version) -> str:
    return f"{version.datastore} {version.name}"
