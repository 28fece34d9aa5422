"""The operating system accounts that things run under.

As root each instance's database server has an account of its own: a bare number with no entry in
/etc/passwd, which follows from its address. 1,900,000,000 and up is used by nobody: systemd's ranges
("Users, Groups, UIDs and GIDs on systemd systems") end at 1,879,048,191. The agent keeps the account of
Argosy, since it starts the server and owns what the server may only read.
"""

from __future__ import annotations

import os
import pwd
import subprocess
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from argosy.domain.errors import PlatformError

FIRST_UID = 1_900_000_000
BUILDER = "argosy"

_NAME_TAKEN = 9  # useradd(8), exit values


@dataclass(frozen=True)
class Account:
    """A user and group id; both our own where nothing can be dropped."""

    uid: int
    gid: int


def separate() -> bool:
    """Whether each instance has an account of its own; an ordinary user's all run as that user."""
    return os.geteuid() == 0


def account_of(address: str) -> Account:
    """The account of the instance at this address; addresses of one home differ in their low 16 bits."""
    if not separate():
        return Account(os.geteuid(), os.getegid())
    number = FIRST_UID + (int(IPv4Address(address)) & 0xFFFF)
    return Account(number, number)


def check_mapped() -> None:
    """Raises PlatformError where root is root of a container that does not have our user ids."""
    if not separate():
        return
    for line in Path("/proc/self/uid_map").read_text().splitlines():
        first, _, count = (int(word) for word in line.split())
        if first <= FIRST_UID and first + count > FIRST_UID + 0xFFFF:
            return
    raise PlatformError(
        f"This container has no user ids {FIRST_UID} to {FIRST_UID + 0xFFFF}, which database servers run under: "
        "map them, or run Argosy as an ordinary user."
    )


def builder() -> Account:
    """The account that lays templates: one with a name, which initdb insists on. Made on first need."""
    if not separate():
        return Account(os.geteuid(), os.getegid())
    known = _named(BUILDER)
    if known is not None:
        return known
    made = subprocess.run(
        ["useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent",
         "--shell", "/usr/sbin/nologin", BUILDER],
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    known = _named(BUILDER)
    if known is None or made.returncode not in (0, _NAME_TAKEN):
        raise PlatformError(f"The account {BUILDER!r} cannot be made: {made.stderr.strip()}.")
    return known


def _named(name: str) -> Account | None:
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return None
    return Account(entry.pw_uid, entry.pw_gid)
