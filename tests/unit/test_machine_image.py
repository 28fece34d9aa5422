"""The image of machines: what it is asked to hold, what it is made of, and what it says of itself."""

from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest

import argosy
from argosy.catalog import files as datastores
from argosy.domain.errors import Invalid
from argosy.domain.parameters import Catalogue, Parameter
from argosy.platforms.openstack.image import environment, facts, packages, sbom, words
from argosy.platforms.openstack.image.packages import PackageList, Pinned
from argosy.platforms.openstack.image.software import Software
from argosy.platforms.openstack.images import Facts

SUM = "0123456789abcdef" * 4
LISTED = PackageList(
    date(2026, 11, 1),
    (
        Pinned("debian", "libc6", "2.36-9+deb12u14", SUM),
        Pinned("debian", "login", "1:4.13+dfsg1-1", SUM),
        Pinned("kernel", "linux-image-6.1.0-56-cloud-amd64", "6.1.192-2", SUM),
        Pinned("wheel", "typing_extensions", "4.12.2", SUM),
    ),
)
POSTGRESQL = datastores()["postgresql"]
SOFTWARE = Software(
    POSTGRESQL.version("17"),
    Path("/images/postgresql-17/bundle"),
    Path("/images/postgresql-17/template"),
    {
        "source": "debian trixie",
        "tls": True,
        "packages": [{"name": "postgresql-17", "version": "17.7-0+deb13u1", "sha256": SUM}],
    },
    Catalogue("17.7", (Parameter("work_mem", "integer", restart_required=False),)),
)


def asked(*said: str) -> list[str]:
    return [f"{each.datastore} {each.name}" for each in words.versions(said, datastores())]


def test_an_image_may_hold_several_versions_of_several_datastores() -> None:
    assert asked("postgresql", "17") == ["postgresql 17"]
    assert asked("postgresql", "15", "17", "mariadb", "11.8") == [
        "postgresql 15",
        "postgresql 17",
        "mariadb 11.8",
    ]
    assert asked("postgresql", "17", "17", "postgresql", "17") == ["postgresql 17"]


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        (
            ["postgres", "17"],
            "There is no datastore 'postgres': name one of mariadb, postgresql, redis, valkey",
        ),
        (["17"], "There is no datastore '17'"),
        (["postgresql", "16"], "PostgreSQL has no version '16': it has 18, 17, 15."),
        (["postgresql"], "Say which versions of postgresql"),
        (
            ["postgresql", "mariadb", "11.8"],
            "Say which versions of postgresql the image is to hold: 18, 17, 15.",
        ),
        ([], "Say which versions the image is to hold"),
    ],
)
def test_what_an_image_cannot_hold_is_said_with_what_it_can(said: list[str], answer: str) -> None:
    with pytest.raises(Invalid, match=re.escape(answer)):
        words.versions(said, datastores())


def test_a_package_list_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = tmp_path / "image.packages"
    written.write_text(LISTED.text())
    assert PackageList.read(written) == LISTED


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("", "is no package list"),
        (
            "# argosy image package list 1\nday 2026-11-01\nrpm bash 5 " + SUM,
            "line 3: expected KIND NAME VERSION",
        ),
        (
            "# argosy image package list 1\nday 2026-11-01\ndebian bash 5 abc",
            "line 3: expected KIND NAME VERSION",
        ),
        ("# argosy image package list 1\nday tomorrow", "line 2: the day must be like 2026-11-01"),
        ("# argosy image package list 1\ndebian bash 5 " + SUM, "no line with the day"),
    ],
)
def test_a_package_list_that_is_none_says_where(tmp_path: Path, text: str, answer: str) -> None:
    written = tmp_path / "list"
    written.write_text(text)
    with pytest.raises(Invalid, match=re.escape(answer)):
        PackageList.read(written)


def test_a_snapshot_is_a_moment_of_debian_and_of_its_security_updates() -> None:
    mirror = packages.snapshot("20251101T000000Z")
    assert mirror.main == "http://snapshot.debian.org/archive/debian/20251101T000000Z"
    assert mirror.security == "http://snapshot.debian.org/archive/debian-security/20251101T000000Z"
    assert packages.moment("20251101T000000Z") == date(2025, 11, 1)
    with pytest.raises(Invalid, match="20251101T000000Z, not 'yesterday'"):
        packages.snapshot("yesterday")


def test_the_facts_are_what_the_platform_reads() -> None:
    told = facts.for_the_control_plane(
        [SOFTWARE], "a1b2", LISTED, tree="cafe", image="beef", kernel="6.1.0-56-cloud-amd64"
    )
    read = Facts.of(told.encode())
    held = read.of_version(SOFTWARE.version)
    assert held is not None
    assert held["bundle"] == "/opt/argosy/software/postgresql/17/bundle"
    assert read.parameters["postgresql/17"] == SOFTWARE.parameters
    assert facts.tags([SOFTWARE]) == ["argosy", "argosy:postgresql:17"]


def test_the_agent_is_told_where_the_software_of_each_version_is() -> None:
    told = json.loads(facts.for_the_agent([SOFTWARE], "a1b2"))
    assert told["agent"] == "a1b2"
    assert told["software"] == [
        {
            "datastore": "postgresql",
            "version": "17",
            "series": "17",
            "bundle": "/opt/argosy/software/postgresql/17/bundle",
            "template": "/opt/argosy/software/postgresql/17/template",
        }
    ]


def test_the_sbom_names_every_package_with_its_version_and_checksum() -> None:
    document = json.loads(sbom.document("image.qcow2", LISTED, [SOFTWARE], SUM, "cafe"))
    assert document["spdxVersion"] == "SPDX-2.3"
    parts = {part["SPDXID"]: part for part in document["packages"]}
    assert len(parts) == len(document["packages"]) == 1 + 4 + 1 + 1
    urls = {ref["referenceLocator"] for part in parts.values() for ref in part.get("externalRefs", [])}
    assert "pkg:deb/debian/login@1%3A4.13%2Bdfsg1-1?arch=amd64&distro=debian-bookworm" in urls
    assert "pkg:pypi/typing-extensions@4.12.2" in urls
    assert "pkg:deb/debian/postgresql-17@17.7-0%2Bdeb13u1?arch=amd64&distro=debian-trixie" in urls
    for name, part in parts.items():
        assert re.fullmatch(r"SPDXRef-[A-Za-z0-9.-]+", name)
        assert name == "SPDXRef-image" or part["checksums"][0]["checksumValue"] == SUM
    related = {each["relatedSpdxElement"] for each in document["relationships"]}
    assert related == set(parts)
    assert document == json.loads(sbom.document("image.qcow2", LISTED, [SOFTWARE], SUM, "cafe"))


def test_the_environment_of_machines_holds_what_the_agent_imports_and_nothing_else() -> None:
    wanted = {re.split(r"[\[=<>]", each)[0] for each in environment.REQUIREMENTS}
    assert wanted == {name for name in _imported("argosy.agent") if name not in sys.stdlib_module_names}


def _imported(package: str) -> set[str]:
    """The names of packages that the modules of one of ours import, and those that these import of ours."""
    source = Path(argosy.__file__).parent.parent
    unseen = [
        ".".join(path.relative_to(source).with_suffix("").parts).removesuffix(".__init__")
        for place in (package, "argosy.engines")  # engines are loaded by their names
        for path in (source / place.replace(".", "/")).rglob("*.py")
    ]
    seen: set[str] = set()
    others: set[str] = set()
    while unseen:
        name = unseen.pop()
        place = source / name.replace(".", "/")
        file = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
        if name in seen or not file.exists():
            continue
        seen.add(name)
        for imported in _imports(file):
            if imported.split(".")[0] == "argosy":
                unseen.append(imported)
            else:
                others.add(imported.split(".")[0])
    return others


def _imports(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{each.name}" for each in node.names)
