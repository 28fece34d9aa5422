"""Configuration groups, parameters, quotas, published logs, and what an instance was given to choose."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from argosy.metadata.tables import UtcDateTime

revision = "0002"
down_revision = "0001"
oldest = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("instances", schema=None) as batch_op:
        batch_op.add_column(sa.Column("agent_release", sa.Integer(), nullable=False, server_default="1"))
        batch_op.add_column(sa.Column("configuration_id", sa.String(length=36), nullable=True))
        batch_op.add_column(sa.Column("configuration_revision", sa.Integer(), nullable=True))
        batch_op.add_column(sa.Column("configuration_error", sa.Text(), nullable=True))
        batch_op.add_column(sa.Column("configuration_refused", sa.Integer(), nullable=True))
        batch_op.add_column(sa.Column("reported_configuration_error", sa.Text(), nullable=True))
        batch_op.add_column(sa.Column("protected", sa.Boolean(), nullable=False, server_default=sa.false()))
        batch_op.add_column(sa.Column("tags", sa.JSON(), nullable=False, server_default="{}"))
        batch_op.add_column(sa.Column("autogrow_limit_gb", sa.Integer(), nullable=True))
        batch_op.add_column(sa.Column("volume_size_bytes", sa.BigInteger(), nullable=True))
        batch_op.add_column(sa.Column("growing_to_gb", sa.Integer(), nullable=True))
        batch_op.add_column(sa.Column("growing_to_memory_mb", sa.Integer(), nullable=True))
        batch_op.add_column(sa.Column("require_tls", sa.Boolean(), nullable=False, server_default=sa.false()))
        batch_op.create_index("ix_instances_configuration_id", ["configuration_id"], unique=False)
    for history in ("operations", "events"):
        with op.batch_alter_table(history, schema=None) as batch_op:
            batch_op.add_column(sa.Column("instance_name", sa.String(length=255), nullable=True))
        op.execute(
            f"update {history} set instance_name = "  # noqa: S608 - the tables named above
            f"(select name from instances where instances.id = {history}.instance_id)"
        )
    op.create_table(
        "operation_changes",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("project_id", sa.String(length=64), nullable=False),
        sa.Column("instance_id", sa.String(length=36), nullable=True),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("kind", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("operation", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_operation_changes")),
    )
    op.create_table(
        "parameters",
        sa.Column("datastore", sa.String(length=64), nullable=False),
        sa.Column("version", sa.String(length=64), nullable=False),
        sa.Column("server_version", sa.String(length=64), nullable=False),
        sa.Column("catalogue", sa.JSON(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("read_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("datastore", "version", name=op.f("pk_parameters")),
    )
    op.create_table(
        "parameter_overrides",
        sa.Column("datastore", sa.String(length=64), nullable=False),
        sa.Column("version", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("definition", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("datastore", "version", "name", name=op.f("pk_parameter_overrides")),
    )
    op.create_table(
        "configurations",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("project_id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("description", sa.String(length=255), nullable=True),
        sa.Column("datastore", sa.String(length=64), nullable=False),
        sa.Column("version", sa.String(length=64), nullable=False),
        sa.Column("values", sa.JSON(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("updated_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_configurations")),
    )
    with op.batch_alter_table("configurations", schema=None) as batch_op:
        batch_op.create_index("ix_configurations_project_id_id", ["project_id", "id"], unique=False)
    op.create_table(
        "configuration_revisions",
        sa.Column("configuration_id", sa.String(length=36), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("values", sa.JSON(), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("by", sa.String(length=255), nullable=False),
        sa.Column("note", sa.String(length=255), nullable=False),
        sa.PrimaryKeyConstraint("configuration_id", "revision", name=op.f("pk_configuration_revisions")),
    )
    op.create_table(
        "quotas",
        sa.Column("project_id", sa.String(length=64), nullable=False),
        sa.Column("resource", sa.String(length=32), nullable=False),
        sa.Column("hard_limit", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("project_id", "resource", name=op.f("pk_quotas")),
    )
    op.create_table(
        "datastore_versions",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("datastore", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("manager", sa.String(length=64), nullable=False),
        sa.Column("series", sa.String(length=64), nullable=True),
        sa.Column("number", sa.String(length=64), nullable=True),
        sa.Column("suite", sa.String(length=64), nullable=False),
        sa.Column("packages", sa.JSON(), nullable=False),
        sa.Column("image_tags", sa.JSON(), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("is_default", sa.Boolean(), nullable=True),
        sa.Column("deleted", sa.Boolean(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_datastore_versions")),
    )
    op.create_table(
        "instance_logs",
        sa.Column("instance_id", sa.String(length=36), nullable=False),
        sa.Column("account", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("begins", sa.BigInteger(), nullable=False),
        sa.Column("ends", sa.BigInteger(), nullable=False),
        sa.Column("rotated", sa.BigInteger(), nullable=False),
        sa.Column("parts", sa.Integer(), nullable=False),
        sa.Column("container", sa.String(length=255), nullable=False),
        sa.Column("prefix", sa.String(length=255), nullable=False),
        sa.Column("writing", sa.String(length=255), nullable=True),
        sa.Column("claimant", sa.String(length=36), nullable=True),
        sa.Column("claimed_at", UtcDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("instance_id", "account", "name", name=op.f("pk_instance_logs")),
    )
