"""Which of a host's archives is Debian's, and what apt's refusals mean to a user."""

from __future__ import annotations

from pathlib import Path

import pytest

from argosy.domain.errors import ImageUnavailable
from argosy.platforms.local.debian import Mirror, Suite, choose_mirror, mirror_at

_DEBIAN = """\
'http://mirror.example/debian/dists/trixie/InRelease' mirror.example_debian_dists_trixie_InRelease 0
'http://mirror.example/debian/dists/trixie-updates/InRelease' mirror.example_debian_dists_trixie-updates_InRelease 0
"""
_SECURITY = "'http://mirror.example/security/dists/trixie-security/InRelease' some_name 0\n"
_VENDOR = "'https://vendor.example/linux/debian/dists/trixie/InRelease' some_name 0\n"
_UBUNTU = "'http://mirror.example/ubuntu/dists/noble/InRelease' some_name 0\n"


@pytest.mark.parametrize(
    ("would_fetch", "origins", "chosen"),
    [
        (_DEBIAN + _SECURITY, "", Mirror("http://mirror.example/debian", "http://mirror.example/security")),
        (_DEBIAN, "", Mirror("http://mirror.example/debian", "http://mirror.example/debian-security")),
        (
            _VENDOR + _DEBIAN,
            "",
            Mirror("http://mirror.example/debian", "http://mirror.example/debian-security"),
        ),
        (
            "'http://mirror.example/debian/dists/stable/InRelease' some_name 0\n" + _VENDOR,
            "https://vendor.example/linux/debian/|Vendor\nhttp://mirror.example/debian/|Debian\n",
            Mirror("http://mirror.example/debian", "http://mirror.example/debian-security"),
        ),
    ],
    ids=[
        "debian host",
        "no security archive",
        "a vendor's archive first",
        "a vendor's archive known as such",
    ],
)
def test_the_mirror_is_the_one_the_host_uses_for_debian(
    would_fetch: str, origins: str, chosen: Mirror
) -> None:
    assert choose_mirror(would_fetch, origins) == chosen


def test_a_host_without_a_debian_mirror_is_told_to_name_one() -> None:
    with pytest.raises(ImageUnavailable, match="debian_mirror"):
        choose_mirror(_UBUNTU, "http://mirror.example/ubuntu/|Ubuntu")


def test_a_mirror_named_by_the_operator_has_its_security_archive_beside_it() -> None:
    assert mirror_at("http://mirror.example/debian/") == Mirror(
        "http://mirror.example/debian", "http://mirror.example/debian-security"
    )


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ("E: Unable to locate package postgresql-99", "has no package postgresql-99"),
        ("E: Package 'redis-server' has no installation candidate", "has no package redis-server"),
        ("W: GPG error: NO_PUBKEY 0123", "upgrade the package debian-archive-keyring"),
        ("E: Write error - write (28: No space left on device)", "free some"),
        ("E: Failed to fetch http://x/y  Could not connect to x:80", "cannot be reached"),
        ("something nobody foresaw", "something nobody foresaw"),
    ],
)
def test_what_apt_refuses_becomes_a_sentence_to_act_on(said: str, sentence: str) -> None:
    suite = Suite(Path("/nowhere"), "trixie", mirror_at("http://mirror.example/debian"), Path("/keys.gpg"))
    assert sentence in suite.explain(said)
