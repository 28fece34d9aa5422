"""Alembic's entry: runs the migrations in one transaction on the URL that `migrate` gives."""

from __future__ import annotations

from alembic import context

from argosy.metadata import identity_tables
from argosy.metadata.store import create_engine
from argosy.metadata.tables import metadata

assert identity_tables  # noqa: S101 - imported for the tables it adds to `metadata`

engine = create_engine(context.config.get_main_option("sqlalchemy.url") or "")
with engine.begin() as connection:
    context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()
engine.dispose()
