"""Alembic's entry: runs the migrations in one transaction on the URL that `migrate` gives."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import context

from argosy.metadata import identity_tables
from argosy.metadata.migrations import OLDEST
from argosy.metadata.store import create_engine
from argosy.metadata.tables import installation, metadata

assert identity_tables  # noqa: S101 - imported for the tables it adds to `metadata`


def keep_oldest(connection: sa.Connection) -> None:
    """Write down who may work on what the migrations have left. Those before 0004 had no place for it."""
    revision = context.get_context().get_current_revision()
    if revision is None or not sa.inspect(connection).has_table(installation.name):
        return
    oldest = context.script.get_revision(revision).module.oldest
    connection.execute(sa.delete(installation).where(installation.c.name == OLDEST))
    connection.execute(sa.insert(installation).values(name=OLDEST, value=oldest))


engine = create_engine(context.config.get_main_option("sqlalchemy.url") or "")
with engine.begin() as connection:
    if engine.dialect.name == "sqlite":
        # Its driver begins no transaction for what makes tables.
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()
        keep_oldest(connection)
engine.dispose()
