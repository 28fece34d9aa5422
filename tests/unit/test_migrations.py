"""A home of an older release is brought to this one's tables, with what is in it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

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

DYING = """
import sqlalchemy as sa
from alembic import op

revision, down_revision, oldest = "0005", "0004", "0003"


def upgrade() -> None:
    op.create_table("half", sa.Column("id", sa.Integer(), primary_key=True))
    op.add_column("instances", sa.Column("half", sa.Integer(), nullable=True))
    raise RuntimeError("died")
"""


class Column(NamedTuple):
    type: str
    nullable: bool
    server_default: str | None


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


def test_each_migration_says_who_may_go_on_and_none_takes_that_back(alembic: Config) -> None:
    known = [script.revision for script in ScriptDirectory.from_config(alembic).walk_revisions()][::-1]
    oldest = [ScriptDirectory.from_config(alembic).get_revision(one).module.oldest for one in known]
    assert all(one in known and one <= own for own, one in zip(known, oldest, strict=True))
    assert oldest == sorted(oldest)


def test_a_migration_that_others_may_go_on_after_takes_nothing_from_them(alembic: Config, url: str) -> None:
    """What was there is there, and what is new in its tables may be left out."""
    scripts = ScriptDirectory.from_config(alembic)
    for script in [*scripts.walk_revisions()][::-1]:
        before = columns(url)
        command.upgrade(alembic, script.revision)
        if script.module.oldest == script.revision:
            continue
        after = columns(url)
        assert before.keys() <= after.keys()
        for table, had in before.items():
            assert had.items() <= after[table].items()
            new = [column for name, column in after[table].items() if name not in had]
            assert all(column.nullable or column.server_default is not None for column in new), table


def columns(url: str) -> dict[str, dict[str, Column]]:
    """By table and name."""
    engine = sa.create_engine(url)
    told = sa.inspect(engine)
    found = {
        table: {
            one["name"]: Column(str(one["type"]), one["nullable"], one["default"])
            for one in told.get_columns(table)
        }
        for table in told.get_table_names()
    }
    engine.dispose()
    return found


def test_the_database_knows_who_may_work_on_it(url: str) -> None:
    store = Store(url)
    assert migrations.state(store.engine, url).oldest is None
    migrations.migrate(store.engine, url)
    assert migrations.state(store.engine, url).oldest == "0003"
    store.close()


def test_an_upgrade_that_dies_half_way_has_changed_nothing(alembic: Config, url: str, tmp_path: Path) -> None:
    command.upgrade(alembic, "head")
    before = columns(url)
    scripts = tmp_path / "scripts"
    # Without what others may be compiling there meanwhile.
    shutil.copytree(Path(migrations.__file__).parent, scripts, ignore=shutil.ignore_patterns("__pycache__"))
    (scripts / "versions" / "0005_dying.py").write_text(DYING)
    alembic.set_main_option("script_location", str(scripts))
    with pytest.raises(RuntimeError, match="died"):
        command.upgrade(alembic, "head")
    assert columns(url) == before
