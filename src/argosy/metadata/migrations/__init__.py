"""Bringing the metadata database to this release's tables; Alembic's versions are in `versions/`."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

HEAD = "0003"


def migrate(engine: sa.Engine, url: str) -> None:
    """Create or upgrade the tables, ours and the queue's; one that is up to date costs a query."""
    if engine.dialect.name == "sqlite":
        with engine.connect() as connection:
            # Readers and the one writer do not wait for each other; kept in the file from then on.
            connection.exec_driver_sql("PRAGMA journal_mode = WAL")
    if _revision(engine) != HEAD:
        _upgrade(url)
    from dbos import DBOS

    DBOS.migrate(url)


def _revision(engine: sa.Engine) -> str | None:
    with engine.connect() as connection:
        if not sa.inspect(connection).has_table("alembic_version"):
            return None
        return connection.execute(sa.text("select version_num from alembic_version")).scalar()


def _upgrade(url: str) -> None:
    # Alembic is needed at an upgrade only, and costs memory that the control plane would keep.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
    command.upgrade(config, "head")
