"""Accounts inside the server: its ACL, which commands who may use, and the file the ACL is kept in.

Three names are never users': `os_admin`, the agent's; `os_repl`, for replicas; `default`, which the
server insists on, is off until root is enabled and is root then.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from argosy.domain.errors import EngineError, Invalid, UserNotFound
from argosy.engines.host import Host
from argosy.engines.valkey.client import Client, Command, Refused

ADMIN = "os_admin"
ROOT = "default"
RESERVED = frozenset({ADMIN, ROOT, "os_repl"})
_DUMPED = re.compile(r"user [^\s]+( (on|off|#[0-9a-f]{64}))*")

# All data, and every command but those that change the server, tell its secrets or stop it. What is then
# let in again is dangerous only to the data, which is the users' own, or tells nothing but figures.
USER_RULES: tuple[str, ...] = (
    "~*", "&*", "+@all", "-@admin", "-@dangerous",
    # Its synchronous mode gives the whole server to one client until that client is done.
    "-script|debug",
    "+flushall", "+flushdb", "+info", "+keys", "+lastsave", "+restore", "+role", "+sort", "+sort_ro", "+swapdb",
)  # fmt: skip
# Root sees what the others are doing. CLIENT KILL stays with us: with it a loop could keep the agent out.
ROOT_RULES: tuple[str, ...] = (
    *USER_RULES,
    "+client|list", "+latency|doctor", "+latency|graph", "+latency|histogram", "+latency|history",
    "+latency|latest", "+slowlog|get", "+slowlog|len",
)  # fmt: skip


def hashed(password: str) -> str:
    """A password as an ACL rule that does not show it."""
    return "#" + hashlib.sha256(password.encode()).hexdigest()


class Accounts:
    """The server's ACL, changed all or nothing: a change is in the ACL file before a method returns.

    Names and rules travel as arguments of their own, so no name can be taken for a rule.
    """

    def __init__(self, host: Host, client: Client, file: Path, password_file: Path) -> None:
        self._host = host
        self._client = client
        self._file = file
        self._password_file = password_file
        self._lock = threading.Lock()

    def prepare(self) -> None:
        """Before a start: write the ACL file anew, with our own account and nobody's rights but those above.

        Who there is and with which password is kept. Rules are not: Redis 7 saves them worked out for the
        commands it has, which would let users at the dangerous ones of a later version.
        """
        stored = dict(_parsed(line) for line in self._stored())
        own = (ADMIN, "on", hashed(self._own_password()), "~*", "&*", "+@all")
        # An ACL file without `default` would make it all-powerful and without a password.
        root = (ROOT, *_credentials(stored.get(ROOT, ("off",))), *ROOT_RULES)
        users = ((name, *_credentials(rules), *USER_RULES) for name, rules in stored.items())
        lines = [own, root, *(user for user in users if user[0] not in {ADMIN, ROOT})]
        self._host.write_file(self._file, "".join(f"user {' '.join(line)}\n" for line in lines))

    def names(self) -> set[str]:
        """Who there is, reserved names left out."""
        return set(self._definitions()) - RESERVED

    def add(self, users: Sequence[tuple[str, str]]) -> None:
        """Make users from names and passwords."""
        with self._lock:
            self._change(
                [_set(name, "reset", "on", hashed(password), *USER_RULES) for name, password in users]
            )

    def alter(self, name: str, *, new_name: str | None, password: str | None) -> None:
        """Give a user another name, password or both, and end its sessions."""
        secret = () if password is None else ("resetpass", hashed(password))
        with self._lock:
            rules = self._definitions().get(name)
            if rules is None:
                raise UserNotFound(name=name, host="%")
            if new_name is None or new_name == name:
                self._change([_set(name, *secret)], end_sessions_of=[name])
            else:
                self._change(
                    [
                        _set(new_name, "reset", *_credentials(rules), *secret, *USER_RULES),
                        ("ACL", "DELUSER", name),
                    ]
                )

    def remove(self, name: str) -> None:
        """Delete a user; the server ends its sessions with it."""
        with self._lock:
            self._change([("ACL", "DELUSER", name)])

    def enable_root(self, password: str) -> None:
        with self._lock:
            self._change([_set(ROOT, "reset", "on", hashed(password), *ROOT_RULES)], end_sessions_of=[ROOT])

    def disable_root(self) -> None:
        with self._lock:
            self._change([_set(ROOT, "reset")], end_sessions_of=[ROOT])

    def dump(self) -> str:
        """Who there is, root included, with which password: lines of an ACL file."""
        everyone = {
            name: rules for name, rules in self._definitions().items() if name not in RESERVED - {ROOT}
        }
        return "".join(f"user {' '.join((name, *_credentials(rules)))}\n" for name, rules in everyone.items())

    def load(self, dump: str) -> None:
        """Make those the only ones there are; sessions end of whose password is another. Raises Invalid."""
        wanted = read_dump(dump)
        with self._lock:
            before = {
                name: _credentials(rules)
                for name, rules in self._definitions().items()
                if name not in RESERVED - {ROOT}
            }
            gone = sorted(set(before) - set(wanted) - {ROOT})
            root = wanted.get(ROOT, ("off",))
            users = {name: rules for name, rules in wanted.items() if name != ROOT}
            self._change(
                [
                    *(_set(name, "reset", *credentials, *USER_RULES) for name, credentials in users.items()),
                    _set(ROOT, "reset", *root, *(ROOT_RULES if "on" in root else ())),
                    *(("ACL", "DELUSER", name) for name in gone),
                ],
                end_sessions_of=[
                    name for name in before if before[name] != wanted.get(name) and name not in gone
                ],
            )

    def rotate_own(self, prove: Callable[[str], None]) -> None:
        """Another password for the management account; `prove` raises when it does not work. See RotatesPassword."""
        with self._lock:
            new = secrets.token_urlsafe(32)
            try:
                self._change([_set(ADMIN, hashed(new))])
                prove(new)
                self._host.write_file(self._password_file, new, as_agent=True)
            finally:
                kept = self._own_password()
                self._change([_set(ADMIN, "resetpass", hashed(kept))])

    def _own_password(self) -> str:
        """The management account's, in a file that only the agent can read."""
        if not self._password_file.exists():
            self._host.write_file(self._password_file, secrets.token_urlsafe(32), as_agent=True)
        return self._password_file.read_text()

    def _stored(self) -> list[str]:
        # The server's account owns the directory: a link it put there must not make the agent read
        # for it what it could not read itself.
        try:
            descriptor = os.open(self._file, os.O_RDONLY | os.O_NOFOLLOW)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise EngineError(f"The ACL file cannot be read: {error.strerror}.") from error
        with os.fdopen(descriptor, encoding="utf-8", errors="replace", newline="\n") as file:
            lines = [line for line in file.read().split("\n") if line]
        if not all(re.fullmatch(r"user [^ ]+( .*)?", line, re.DOTALL) for line in lines):
            raise EngineError("The ACL file is damaged: it has lines that are no user's.")
        return lines

    def _definitions(self) -> dict[str, tuple[str, ...]]:
        """The rules of every account, in the form ACL SETUSER takes."""
        return dict(_parsed(line) for line in self._client.call("ACL", "LIST"))

    def _change(self, commands: Sequence[Command], end_sessions_of: Sequence[str] = ()) -> None:
        """Run ACL commands and save, or leave everything as it was. Then end sessions."""
        before = self._definitions()
        try:
            self._client.pipeline(commands)
            self._client.call("ACL", "SAVE")
        except Refused:
            for name in {command[2] for command in commands}:
                undo = _set(name, "reset", *before[name]) if name in before else ("ACL", "DELUSER", name)
                self._client.call(*undo)
            raise
        if end_sessions_of:
            self._client.pipeline([("CLIENT", "KILL", "USER", name) for name in end_sessions_of])


def read_dump(text: str) -> dict[str, tuple[str, ...]]:
    """What `Accounts.dump` wrote: on or off and password hashes, by name. Raises Invalid for anything else."""
    lines = text.split("\n")
    if lines.pop() or not all(_DUMPED.fullmatch(line) for line in lines):
        raise Invalid("These are no accounts of a Valkey or Redis server.", code="bad-accounts")
    return {name: rules for name, rules in map(_parsed, lines) if name not in RESERVED - {ROOT}}


def _set(name: str, *rules: str) -> Command:
    return ("ACL", "SETUSER", name, *rules)


def _parsed(line: str) -> tuple[str, tuple[str, ...]]:
    """Name and rules of a line of the ACL file or of ACL LIST; neither can hold a space."""
    _, name, *rules = line.split(" ")
    return name, tuple(rules)


def _credentials(rules: Sequence[str]) -> tuple[str, ...]:
    """On or off, and the password hashes."""
    return tuple(rule for rule in rules if rule in {"on", "off"} or rule.startswith("#"))
