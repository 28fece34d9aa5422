"""What every engine does, and the capabilities an engine may have.

An engine drives one database server in one data directory. What it cannot do it does not have: a
capability is a protocol the engine class lists among its bases, so mypy proves the list true and the
agent asks `isinstance`. Methods return once the server has obeyed, or raise an `ArgosyError`; each is
safe to repeat after a crash in its middle unless it says otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self, runtime_checkable

from argosy.domain.databases import Database, NewUser, User, UserChange, UserId
from argosy.domain.parameters import Effective, Parameter
from argosy.engines.host import Host
from argosy.engines.process import ServerProcess

if TYPE_CHECKING:
    from argosy.engines.logs import Log


class Health(StrEnum):
    """What the server says of itself: ask the server, not the process table."""

    UP = "up"
    STARTING = "starting"  # answers that it is loading or recovering
    BLOCKED = "blocked"  # answers, but cannot serve (read-only for want of space, all connections taken)
    DOWN = "down"


class Engine(Protocol):
    """One database server in one data directory; the agent watches `server` and calls `start` again when it dies."""

    host: Host
    server: ServerProcess

    def build_template(self) -> None:
        """Lay a pristine data directory in `host.template`, once per version; already there is left alone."""

    def initialise(self) -> None:
        """Make the data directory (from the template when there is one), unlike any other; whole or not at all."""

    def start(self) -> None:
        """Write the configuration for the host's size, start the server, wait until it answers queries.

        Also makes sure of the management account, so that no user's root can lock the agent out for good.
        A running server is left alone.

        Raises EngineError with the last lines of the server's log when it will not come up.
        """

    def stop(self) -> None:
        """Shut the server down cleanly, everything acknowledged on disk; a stopped one is left alone."""

    def health(self) -> Health:
        """Ask the server by a real query; quick (about a second at most), never raises."""

    def server_version(self) -> str:
        """The version the server reports, such as 17.12."""

    def used_bytes(self) -> int:
        """Bytes of data held on the volume."""


@runtime_checkable
class Databases(Protocol):
    """Has databases that users are let into."""

    def list_databases(self) -> list[Database]:
        """Sorted by name; the server's own and ours are left out."""

    def create_databases(self, databases: Sequence[Database]) -> None:
        """Raises DatabaseExists before any is made."""

    def delete_database(self, name: str) -> None:
        """Ends the sessions in it first. Raises DatabaseNotFound."""


@runtime_checkable
class Users(Protocol):
    """Has users with passwords."""

    def list_users(self) -> list[User]:
        """Sorted by `name@host`; the server's own, ours and root are left out."""

    def get_user(self, user: UserId) -> User:
        """Raises UserNotFound."""

    def create_users(self, users: Sequence[NewUser]) -> None:
        """Raises UserExists before any is made, DatabaseNotFound for access to what is not there."""

    def update_user(self, user: UserId, change: UserChange) -> None:
        """Rename, move to another host, set the password: all or nothing. Raises UserNotFound, UserExists."""

    def delete_user(self, user: UserId) -> None:
        """Ends its sessions; what it owned stays with the server's administrator. Raises UserNotFound."""


@runtime_checkable
class Access(Protocol):
    """Users are let into databases one by one."""

    def grant_access(self, user: UserId, databases: Sequence[str]) -> None:
        """Adds to what the user may use. Raises UserNotFound, DatabaseNotFound before any is granted."""

    def revoke_access(self, user: UserId, database: str) -> None:
        """Effective at once. Raises UserNotFound, AccessNotFound."""


@runtime_checkable
class RootAccess(Protocol):
    """Can hand out an administrator's account of its own, apart from the agent's."""

    root_name: str

    def enable_root(self, password: str) -> None:
        """A second call sets the new password."""

    def disable_root(self) -> None:
        """Ends root's sessions; what root owned stays. Already disabled is left alone."""


@runtime_checkable
class Logs(Protocol):
    """Writes logs, of which some are its owner's to switch on and off; see `logs.py`."""

    def logs(self) -> Sequence[Log]:
        """As they are now; the agent reads and rotates their files."""

    def switch_log(self, name: str, *, on: bool) -> None:
        """At once, and from now on. Raises Invalid when the configuration group says otherwise."""


@runtime_checkable
class Configurable(Protocol):
    """Has parameters that its owner may set by a configuration group; see `layers.py`."""

    def read_parameters(self) -> list[Parameter]:
        """What the running server tells of every parameter it has, by name; those Argosy owns say why.

        Only for a server that is thrown away afterwards: it may be tried with all sorts of values, and stopped.
        """

    def apply_parameters(self, values: Mapping[str, str]) -> None:
        """Follow these from now on, and no others: at once where the server can, else at its next start.

        Raises Invalid or EngineError with the server's words when it refuses one; then all is as it was before.
        A stopped server takes them when it starts.
        """

    def apply_settings(self) -> None:
        """Bring a running server up to what its layers say now (another size, other logs), as far as it can."""

    def settle(self) -> None:
        """`apply_settings` in a new agent's first moments: what the group says is given up if it is refused."""

    def effective_parameters(self) -> list[Effective]:
        """Every parameter with its value in the running server and where that is from, by name."""

    def default_settings(self) -> dict[str, str]:
        """What Argosy sets for an instance of this size, without logs and configuration group."""

    def pending_restart(self) -> list[str]:
        """Names whose new value waits for the server's next start; never those of a change that is still being tried."""

    def pending_resize(self) -> list[str]:
        """Of those the names whose value follows from the server's size."""

    def fall_back(self) -> bool:
        """Before another attempt to start: to the group's values that worked last. False: those are what it has."""

    def restore_asked(self) -> None:
        """Undo `fall_back`, when it was of no help."""

    @property
    def refused(self) -> str | None:
        """Why the group's values are not the ones in force, when the server would not start with them."""


@runtime_checkable
class Upgrades(Protocol):
    """Its data can be moved to another version; `upgrades.py` has the order in which these are called.

    `newer` in `convert` is this engine itself: the other version's, in a place of the staging area.
    """

    def program_version(self) -> str:
        """What the server's program says it is, such as 17.12, whether it runs or not."""

    def find_obstacles(self, to: Host, *, rehearsal: bool) -> list[str]:
        """Sentences on what in the running server the version of `to` would refuse, with the way out; quick."""

    def copy_data(self, target: Path) -> None:
        """A copy of the data directory that is whole: of a stopped server, or as of one moment of a running one."""

    def prepare_to_stop(self) -> None:
        """Have the running server leave its files in the state that another version needs."""

    def convert(self, older: Self, copy: Path) -> None:
        """Make `host.data` of a copy of the older version's data, which is used up."""

    def finish_conversion(self) -> None:
        """What the new server needs done, on its first start, before anybody may use it."""

    def after_upgrade(self) -> None:
        """What may be done while it serves, such as gathering statistics."""


@runtime_checkable
class RotatesPassword(Protocol):
    """The agent's own account has a password."""

    def rotate_password(self) -> None:
        """Give it another one. The old one holds until the new one has worked.

        Whenever the agent dies meanwhile, the one it has kept holds.
        """


@runtime_checkable
class Guarded(Protocol):
    """Keeps clients out by where they come from, and may insist on TLS, as its owner chose (see `choices.py`)."""

    def check_guard(self, allowed_cidrs: Sequence[str], *, require_tls: bool) -> None:
        """Raises Unsupported when this server, or this machine, cannot hold clients to that."""

    def guard(self) -> None:
        """Bring a running server to what is chosen now; sessions that may not be any more are ended.

        A server that starts is guarded from its first moment. A stopped one is left alone.
        """

    def guarded(self) -> tuple[str, str]:
        """How the networks are enforced, and what is asked of TLS, in words for `show`."""


@runtime_checkable
class ShowsCertificate(Protocol):
    """Shows clients a certificate, and can be given another one while it runs."""

    def show_certificate(self) -> None:
        """Have the running server show what its certificate's files hold now; sessions go on."""


@runtime_checkable
class MindsRoom(Protocol):
    """Does something about its volume when that is full."""

    def mind_room(self) -> None:
        """Called every few seconds while the server runs: undo what want of room forced, once there is room again."""


@runtime_checkable
class ChecksSize(Protocol):
    """Holds all its data in memory, so that it may not fit into less."""

    def check_size(self, memory_mb: int) -> None:
        """Raises EngineError, with the numbers, when what the running server holds is more than that size takes."""
