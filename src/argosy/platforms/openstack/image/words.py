"""Which versions an image is asked to hold, in the words of a command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from argosy.domain.datastore import Datastore, Version
from argosy.domain.errors import Invalid


def versions(words: Sequence[str], datastores: Mapping[str, Datastore]) -> list[Version]:
    """`postgresql 15 17 mariadb 11.8`: a datastore, then those of its versions. Raises Invalid."""
    found: list[Version] = []
    datastore: Datastore | None = None
    versions_of_it = 0
    for word in words:
        if word in datastores:
            if datastore is not None and not versions_of_it:
                raise Invalid(
                    f"Say which versions of {datastore.name} the image is to hold: {_known(datastore)}."
                )
            datastore, versions_of_it = datastores[word], 0
            continue
        if datastore is None:
            raise Invalid(
                f"There is no datastore {word!r}: name one of {', '.join(sorted(datastores))} first."
            )
        try:
            version = datastore.version(word)
        except KeyError:
            raise Invalid(f"{datastore.title} has no version {word!r}: it has {_known(datastore)}.") from None
        if version not in found:
            found.append(version)
        versions_of_it += 1
    if datastore is None or not versions_of_it:
        named = "" if datastore is None else f" of {datastore.name}"
        raise Invalid(
            f"Say which versions{named} the image is to hold, such as: postgresql 15 17 mariadb 11.8."
        )
    return found


def _known(datastore: Datastore) -> str:
    return ", ".join(version.name for version in datastore.versions)
