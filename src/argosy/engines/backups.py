"""What an engine must be able to do for backups that are worth having, as capabilities.

Everything here streams: no engine holds more of a backup than a part of it. Facts are plain JSON: the engine's own words
on a backup (positions, program versions, what its manifest must remember), which come back to it unchanged when
there is an increment to make or a chain to restore. They hold no secret.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

Facts = Mapping[str, Any]
Say = Callable[[str], None]
# Takes the next part of a stream, of any size; raises an ArgosyError when the stream cannot go on.
Write = Callable[[bytes], None]

# Facts that all engines tell, beside their own.
CONSISTENT_AT = "consistent_at"  # ISO 8601, UTC: the moment whose state the backup has
FINGERPRINT = "fingerprint"  # what `Checks.fingerprint` told at that time
# And those whose log is archived. A restore to a place in the log begins at a backup whose POSITION is not behind it.
LOG_FROM = (
    "log_from"  # an int in the count of `Segment.starts`: log from there on leads further than the backup
)
POSITION = "position"  # the place of `consistent_at` in the log, as users name it: an LSN, a GTID


@dataclass(frozen=True)
class Stored:
    """One archive of a chain: `read` begins its stream anew at each call, checked while it is read."""

    facts: Facts
    read: Callable[[], Iterator[bytes]]


@dataclass(frozen=True)
class Segment:
    """A piece of the server's log. `starts` and `ends` are in the engine's own count: the next one starts where it ends.

    The times are of the first and last commit in it, where there are any and the engine knows. Where users do not name
    places by that count (GTIDs of MariaDB), the fact POSITION is the last place in it or before it.
    """

    name: str
    starts: int
    ends: int
    size_bytes: int
    first_at: datetime | None = None
    last_at: datetime | None = None
    facts: Facts = field(default_factory=dict)


@dataclass(frozen=True)
class Log:
    """Archived log for a restore, in order. `fetch` puts a segment into a file, checked; it may be asked from any thread.

    They reach past the target where there is more log than that. Where there is not, nothing was committed between the
    last of them and `to_time`, and the end of the log is the target: that is no error.
    """

    segments: Sequence[Segment]
    fetch: Callable[[Segment, Path], None]
    to_time: datetime | None = None
    to_position: str | None = None


@runtime_checkable
class BackUps(Protocol):
    """Can be backed up while it serves, and restored.

    `increments` says why it has no incremental backups, in a sentence for users; None when it has them.
    """

    increments: str | None

    def back_up(self, write: Write, parent: Facts | None, say: Say) -> Facts:
        """Write a consistent copy of the running server, or what has changed since the parent's; returns its facts.

        Writers are never blocked for longer than the engine's own tool must. Whatever happens, nothing of it runs on
        or stays on the volume afterwards, also when an earlier agent died in the middle of it.
        Raises EngineError, and Invalid (code `parent-unusable`) when the parent cannot be built on.
        """

    def restore(self, chain: Sequence[Stored], log: Log | None, say: Say) -> Facts:
        """Make `host.data` of a chain, the full one first, and of the log after it: whole or not at all.

        `host.data` is not there before. A private server may run for it, and none runs afterwards. Returns facts: how
        far it came (`reached_at`, `reached_position`). Raises EngineError with the reason, such as a target the log does
        not reach.
        """


@runtime_checkable
class KeepsAccounts(Protocol):
    """Its users can be carried from one server to another, passwords and grants included."""

    def dump_accounts(self) -> str:
        """All users and root if it is enabled, as this engine's own text; secret, as it has hashes of passwords."""

    def load_accounts(self, dump: str) -> list[str]:
        """Make the running server's users those: missing ones are made, others' passwords and grants set, more taken away.

        Grants on databases that are not there are left out; returns a sentence for each.
        """


@runtime_checkable
class ProvesByItself(Protocol):
    """Holds all its data in memory, which has no room for a second server that proves what was restored."""

    def prove(self, accounts: str | None, say: Say) -> list[str]:
        """Look at restored data as closely as can be without a server, and give it these accounts as `load_accounts` does.

        Raises EngineError with what is wrong.
        """


@runtime_checkable
class Checks(Protocol):
    """Can tell whether its data is whole."""

    def fingerprint(self) -> Facts:
        """Row counts or checksums of what is in the running server, to compare a restored one with; bounded in time."""

    def check(self, fingerprint: Facts | None, say: Say) -> list[str]:
        """Run the engine's own consistency checks on the running server; returns what is wrong, in sentences."""


@runtime_checkable
class ArchivesLog(Protocol):
    """Its log can be archived, so that it can be restored to any moment."""

    def keep_log(self, *, on: bool) -> None:
        """Keep finished segments until they are archived, or no longer. At once, or at the next start."""

    def finished_segments(self) -> list[Segment]:
        """Those that wait to be archived, in order; each is a file of its own by then.

        Segments the server had to forget before they were archived are missing: whoever takes them down notices the gap.
        """

    def segment_file(self, segment: Segment) -> Path:
        """Where it is, for reading."""

    def archived(self, segment: Segment) -> None:
        """It is in the store: the server may forget it."""

    def finish_segment(self) -> None:
        """End the segment that is being written, if anything is in it, so that it can be archived.

        It may come up among the finished ones a moment later.
        """

    def position(self) -> int:
        """How far the log is written, in the count of `Segment.ends`.

        No further than the end of the last finished one when nothing worth archiving came after it: all is archived
        when the archive has come so far.
        """


@runtime_checkable
class Dumps(Protocol):
    """Can write databases as logical dumps that other servers read, and read such dumps.

    Users, and what they may do, are not in a dump: whoever loads one owns what is in it.
    """

    def dump(self, write: Write, database: str | None, table: str | None) -> None:
        """Without a database, of the only one there is.

        Raises DatabaseNotFound, NotFound, and Invalid for what cannot be dumped apart.
        """

    def load_dump(self, parts: Iterator[bytes], database: str | None) -> list[str]:
        """Into a database that is there; returns sentences on what was left out.

        Whatever is in the dump is done with the rights of those who may use that database, and no others.
        Raises Invalid with the program's words when it is no dump it understands, or does not fit.
        """
