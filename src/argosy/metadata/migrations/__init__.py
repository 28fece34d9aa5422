"""Bringing the metadata database to this release's tables; Alembic's versions are in `versions/`.

Each says the oldest revision whose processes may go on with what it leaves: a process of the release before can then be
started again after the tables were upgraded, until it is replaced. The database keeps what the newest said.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from argosy.domain.errors import Unavailable
from argosy.metadata.tables import installation

HEAD = "0004"
# Among what an installation agrees on.
OLDEST = "oldest revision"


class WrongRevision(Unavailable):
    """The tables are another release's."""

    code = "database-revision"


@dataclass(frozen=True)
class State:
    """`revision` is None of an empty database; `queue_is_current` is of the tables that are DBOS's.

    `oldest` is the revision from which on processes may work on it, None where none was written down.
    """

    revision: str | None
    oldest: str | None
    queue_is_current: bool

    @property
    def is_current(self) -> bool:
        return self.revision == HEAD and self.queue_is_current

    @property
    def is_newer(self) -> bool:
        return self.revision is not None and self.revision > HEAD

    @property
    def is_usable(self) -> bool:
        """Whether processes of this release may work on it."""
        return self.is_current or (self.is_newer and not self.is_too_new and self.queue_is_current)

    @property
    def is_too_new(self) -> bool:
        return self.is_newer and (self.oldest is None or self.oldest > HEAD)


def migrate(engine: sa.Engine, url: str) -> None:
    """Create or upgrade the tables, ours and the queue's; one that is up to date costs a query.

    For one process at a time. The tables of a newer release stay as they are. Raises WrongRevision for those that this
    one may not work on.
    """
    found = _revision(engine)
    if found is not None and found > HEAD:
        check(engine, url)
        return
    if engine.dialect.name == "sqlite":
        with engine.connect() as connection:
            # Readers and the one writer do not wait for each other; kept in the file from then on.
            connection.exec_driver_sql("PRAGMA journal_mode = WAL")
    if found != HEAD:
        _upgrade(url)
    from dbos import DBOS

    DBOS.migrate(url)


def state(engine: sa.Engine, url: str) -> State:
    """What the database has; changes nothing."""
    found = _revision(engine)
    return State(found, _oldest(engine), found is not None and _queue_is_current(url))


def check(engine: sa.Engine, url: str) -> State:
    """Raises WrongRevision unless this release's processes may work on the tables; an empty database has none."""
    found = state(engine, url)
    if found.is_too_new:
        since = f"on which processes of revision {found.oldest} or newer work, " if found.oldest else ""
        raise WrongRevision(
            f"The metadata database has revision {found.revision} of a newer release, {since}and this release has "
            f"revision {HEAD}: start the newer one."
        )
    if not found.is_usable:
        has = "an older queue" if found.is_newer or found.revision == HEAD else f"revision {found.revision}"
        raise WrongRevision(
            f"The metadata database has {has} and this release needs {HEAD}: run `argosy admin db upgrade` first, with "
            "the processes of the release before going on meanwhile."
        )
    return found


def is_empty(engine: sa.Engine) -> bool:
    return _revision(engine) is None


def _queue_is_current(url: str) -> bool:
    # DBOS looks at its tables when it is launched, which is in task managers alone, and has no way to ask.
    from dbos._error import DBOSInitializationError
    from dbos._serialization import DefaultSerializer
    from dbos._sys_db import SystemDatabase

    database = SystemDatabase.create(
        system_database_url=url,
        engine_kwargs={"pool_size": 1, "max_overflow": 0},
        engine=None,
        schema="dbos",
        serializer=DefaultSerializer(),
        executor_id=None,
    )
    try:
        database.verify_migrations()
    except DBOSInitializationError:
        return False
    finally:
        database.destroy()
    return True


def _revision(engine: sa.Engine) -> str | None:
    with engine.connect() as connection:
        if not sa.inspect(connection).has_table("alembic_version"):
            return None
        return connection.execute(sa.text("select version_num from alembic_version")).scalar()


def _oldest(engine: sa.Engine) -> str | None:
    with engine.connect() as connection:
        if not sa.inspect(connection).has_table(installation.name):
            return None
        query = sa.select(installation.c.value).where(installation.c.name == OLDEST)
        return connection.execute(query).scalar()


def _upgrade(url: str) -> None:
    # Alembic is needed at an upgrade only, and costs memory that the control plane would keep.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
    command.upgrade(config, "head")
