"""What an image is made of, for those who ask after licences and vulnerabilities: SPDX 2.3 as JSON."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from argosy.platforms.openstack.image.packages import SUITE, PackageList
from argosy.platforms.openstack.image.software import Software

_NAMESPACE = uuid.UUID("a6e0a1d6-3a0c-4d0e-9a55-0d5e2f4b7c14")


def document(name: str, packages: PackageList, software: Sequence[Software], agent: str, tree: str) -> str:
    """Packages of the system, wheels of the agent, and packages that the software of each version is made of."""
    parts = [*_parts(packages, software, agent)]
    when = datetime.combine(packages.day, datetime.min.time(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    image = {
        "SPDXID": "SPDXRef-image",
        "name": name,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": False,
        "comment": f"The digest of its files is {tree}.",
    }
    return json.dumps(
        {
            "spdxVersion": "SPDX-2.3",
            "dataLicense": "CC0-1.0",
            "SPDXID": "SPDXRef-DOCUMENT",
            "name": name,
            # Like images have like documents: the namespace is that of the files.
            "documentNamespace": f"urn:uuid:{uuid.uuid5(_NAMESPACE, tree)}",
            "creationInfo": {"created": when, "creators": ["Tool: argosy image build"]},
            "packages": [image, *parts],
            "relationships": [
                _related("SPDXRef-DOCUMENT", "DESCRIBES", "SPDXRef-image"),
                *(_related("SPDXRef-image", "CONTAINS", part["SPDXID"]) for part in parts),
            ],
        },
        indent=1,
    )


def _parts(packages: PackageList, software: Sequence[Software], agent: str) -> Iterator[dict[str, Any]]:
    for package in packages.packages:
        kind = "pypi" if package.kind == "wheel" else "deb"
        yield _part(kind, package.name, package.version, package.sha256, suite=SUITE)
    yield _part("generic", "argosy-agent", agent[:12], agent)
    for each in software:
        version = each.version
        inside = f"{version.datastore}-{version.name}"
        for part in each.manifest["packages"]:
            yield _part(
                "deb",
                part["name"],
                part["version"],
                part["sha256"],
                inside,
                each.manifest["source"].split()[-1],
            )


def _part(
    kind: str, name: str, version: str, sha256: str, inside: str = "system", suite: str = ""
) -> dict[str, Any]:
    place = {"deb": "pkg:deb/debian/", "pypi": "pkg:pypi/", "generic": "pkg:generic/"}[kind]
    url = f"{place}{quote(name.lower().replace('_', '-') if kind == 'pypi' else name)}@{quote(version, safe='')}"
    if kind == "deb":
        url += f"?arch=amd64&distro=debian-{suite}"
    part = {
        # An id holds letters, digits, dots and hyphens only.
        "SPDXID": f"SPDXRef-{inside}-{kind}-{''.join(c if c.isalnum() or c in '.-' else '-' for c in name)}",
        "name": name,
        "versionInfo": version,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": False,
        "checksums": [{"algorithm": "SHA256", "checksumValue": sha256}],
        "externalRefs": [
            {"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": url}
        ],
    }
    if inside != "system":
        part["comment"] = f"Part of the software in /opt/argosy/software, {inside}."
    return part


def _related(one: str, how: str, other: str) -> dict[str, str]:
    return {"spdxElementId": one, "relationshipType": how, "relatedSpdxElement": other}
