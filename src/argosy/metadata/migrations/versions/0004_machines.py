"""Guests on machines, several task managers, and what differs between platform and metadata."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from argosy.metadata.tables import UtcDateTime

revision = "0004"
down_revision = "0003"
oldest = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Processes of the release before go on writing rows meanwhile: what they leave out has a default.
    op.add_column("instances", sa.Column("placement", sa.JSON(), nullable=False, server_default="{}"))
    op.add_column("instances", sa.Column("agent_code", sa.String(64), nullable=False, server_default=""))
    op.add_column("datastore_versions", sa.Column("image", sa.String(length=64), nullable=True))
    op.create_index(
        "ix_operations_not_ended",
        "operations",
        ["created_at"],
        sqlite_where=sa.text("ended_at IS NULL"),
        postgresql_where=sa.text("ended_at IS NULL"),
    )
    op.create_table(
        "guests",
        sa.Column("instance_id", sa.String(length=36), nullable=False),
        sa.Column("told", sa.JSON(), nullable=False),
        sa.Column("identity", sa.Integer(), nullable=False),
        sa.Column("key_digest", sa.String(length=64), nullable=True),
        sa.Column("enrolled_at", UtcDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("instance_id", name=op.f("pk_guests")),
    )
    op.create_table(
        "task_managers",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("release", sa.String(length=64), nullable=False),
        sa.Column("started_at", UtcDateTime(), nullable=False),
        sa.Column("seen_at", UtcDateTime(), nullable=False),
        sa.Column("lost_at", UtcDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_task_managers")),
    )
    op.create_table(
        "leases",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("holder", sa.String(length=64), nullable=False),
        sa.Column("until", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_leases")),
    )
    op.create_table(
        "installation",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_installation")),
    )
    op.create_table(
        "findings",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("kind", sa.String(length=64), nullable=False),
        sa.Column("resource", sa.String(length=255), nullable=False),
        sa.Column("instance_id", sa.String(length=36), nullable=True),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("repaired", sa.Boolean(), nullable=False),
        sa.Column("found_at", UtcDateTime(), nullable=False),
        sa.Column("seen_at", UtcDateTime(), nullable=False),
        sa.Column("gone_at", UtcDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_findings")),
    )
    op.create_index("ix_findings_gone_at", "findings", ["gone_at"], unique=False)
    op.create_index("ix_findings_instance_id", "findings", ["instance_id"], unique=False)


def downgrade() -> None:
    for table in ("findings", "installation", "leases", "task_managers", "guests"):
        op.drop_table(table)
    op.drop_index("ix_operations_not_ended", "operations")
    op.drop_column("instances", "agent_code")
    op.drop_column("datastore_versions", "image")
    op.drop_column("instances", "placement")
