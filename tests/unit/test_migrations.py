"""A home of an older release is brought to this one's tables, with what is in it."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from argosy.metadata import identity_tables, migrations
from argosy.metadata.store import Store
from argosy.metadata.tables import metadata

assert identity_tables  # imported for the tables it adds to `metadata`

OLD_INSTANCE = """
insert into instances (id, project_id, name, datastore, version, flavor_id, volume_gb, access, platform, created_at,
                       updated_at, broken, restart_required, root_enabled)
values ('11111111-1111-4111-8111-111111111111', 'p', 'old', 'valkey', '8', '1', 1, '{}', '{}',
        '2026-01-01 00:00:00', '2026-01-01 00:00:00', 0, 0, 0)
"""


@pytest.fixture
def alembic(tmp_path: Path) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    config.set_main_option("sqlalchemy.url", f"sqlite:///{tmp_path / 'argosy.db'}")
    return config


@pytest.fixture
def url(alembic: Config) -> str:
    return str(alembic.get_main_option("sqlalchemy.url"))


def test_the_last_migration_is_the_one_that_is_looked_for(alembic: Config) -> None:
    assert ScriptDirectory.from_config(alembic).get_current_head() == migrations.HEAD


def test_an_instance_of_the_first_release_is_there_after_the_upgrade(alembic: Config, url: str) -> None:
    command.upgrade(alembic, "0001")
    old = sa.create_engine(url)
    with old.begin() as connection:
        connection.exec_driver_sql(OLD_INSTANCE)
    old.dispose()
    store = Store(url)
    try:
        migrations.migrate(store.engine, url)
        with store.read("p") as tx:
            (instance,) = tx.instances.all()
    finally:
        store.close()
    assert (instance.name, instance.protected, instance.tags) == ("old", False, {})
    assert instance.configuration_id is None


def test_the_migrations_make_the_tables_that_the_code_has(alembic: Config, url: str) -> None:
    command.upgrade(alembic, "head")
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        differences = compare_metadata(context, metadata)
    engine.dispose()
    assert differences == []
