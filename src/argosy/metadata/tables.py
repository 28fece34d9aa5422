"""The tables. Times are UTC, stored without zone (SQLite has none) and given back aware; ids are UUIDs as text."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class UtcDateTime(TypeDecorator[datetime]):
    """An aware datetime in Python, a naive one in UTC in the database."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 - SQLAlchemy's
        return None if value is None else value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:  # noqa: ARG002 - SQLAlchemy's
        return None if value is None else value.replace(tzinfo=UTC)


instances = Table(
    "instances",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("project_id", String(64), nullable=False),
    Column("name", String(255), nullable=False),
    Column("datastore", String(64), nullable=False),
    Column("version", String(64), nullable=False),
    Column("flavor_id", String(64), nullable=False),
    Column("volume_gb", Integer, nullable=False),
    Column("access", JSON, nullable=False),
    Column("address", String(64)),
    Column("platform", JSON, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Column("deleted_at", UtcDateTime),
    # The claim: the operation that holds the instance now.
    Column("operation_id", String(36)),
    Column("operation_kind", String(64)),
    Column("broken", Boolean, nullable=False, default=False),
    Column("fault_message", Text),
    Column("fault_details", Text),
    Column("fault_at", UtcDateTime),
    # What the guest last reported; written by the conductor alone.
    Column("service", String(16)),
    Column("report_number", BigInteger),
    Column("reported_at", UtcDateTime),
    Column("volume_used_bytes", BigInteger),
    Column("volume_size_bytes", BigInteger),
    Column("server_version", String(64)),
    Column("restart_required", Boolean, nullable=False, default=False),
    Column("agent_release", Integer, nullable=False, default=1),
    Column("agent_code", String(64), nullable=False, default=""),  # its digest
    Column("reported_configuration_error", Text),
    Column("root_enabled", Boolean, nullable=False, default=False),
    # Kept when root is disabled: it may have left things behind.
    Column("root_enabled_at", UtcDateTime),
    Column("root_enabled_by", String(255)),
    # The configuration group it follows, the revision of it that was last applied, why a newer one was not, and
    # which the server refused. With a revision and no group, the group's values are still to be taken away.
    Column("configuration_id", String(36)),
    Column("configuration_revision", Integer),
    Column("configuration_error", Text),
    Column("configuration_refused", Integer),
    Column("protected", Boolean, nullable=False, default=False),
    Column("tags", JSON, nullable=False, default=dict),
    Column("autogrow_limit_gb", Integer),
    # What the operation that holds it may make of it: the project's quota counts the larger size.
    Column("growing_to_gb", Integer),
    Column("growing_to_memory_mb", Integer),
    Column("require_tls", Boolean, nullable=False, default=False),
    # Where it is to be: the network, zone and group that its owner asked for.
    Column("placement", JSON, nullable=False, default=dict),
    Index("ix_instances_configuration_id", "configuration_id"),
    # The cost of a list is one walk of this index, whatever the table holds.
    Index("ix_instances_project_id_deleted_at_id", "project_id", "deleted_at", "id"),
)

operations = Table(
    "operations",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("project_id", String(64), nullable=False),
    Column("instance_id", String(36)),
    Column("kind", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("step", Integer, nullable=False, default=0),
    Column("steps", Integer, nullable=False, default=0),
    Column("doing", String(255), nullable=False, default=""),
    Column("requested_by", String(255), nullable=False),
    # As it was called then: history outlives its instance.
    Column("instance_name", String(255)),
    Column("created_at", UtcDateTime, nullable=False),
    Column("started_at", UtcDateTime),
    Column("ended_at", UtcDateTime),
    Column("error_code", String(64)),
    Column("error", Text),
    Column("error_details", Text),
    Index("ix_operations_project_id_created_at", "project_id", "created_at"),
    Index("ix_operations_instance_id_created_at", "instance_id", "created_at"),
    Index(
        "ix_operations_not_ended",
        "created_at",
        sqlite_where=text("ended_at IS NULL"),
        postgresql_where=text("ended_at IS NULL"),
    ),
)

# Each state that an operation was in, in order, for those who follow; kept for a while.
operation_changes = Table(
    "operation_changes",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("project_id", String(64), nullable=False),
    Column("instance_id", String(36)),
    Column("at", UtcDateTime, nullable=False),
    Column("kind", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("operation", JSON, nullable=False),
)

events = Table(
    "events",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("project_id", String(64), nullable=False),
    Column("instance_id", String(36)),
    Column("at", UtcDateTime, nullable=False),
    Column("kind", String(64), nullable=False),
    Column("message", Text, nullable=False),
    Column("actor", String(255), nullable=False),
    Column("instance_name", String(255)),
    Index("ix_events_project_id_id", "project_id", "id"),
    Index("ix_events_instance_id_id", "instance_id", "id"),
)

flavors = Table(
    "flavors",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("name", String(255), nullable=False),
    Column("memory_mb", Integer, nullable=False),
    Column("vcpus", Integer, nullable=False),
)

images = Table(
    "images",
    metadata,
    Column("datastore", String(64), primary_key=True),
    Column("version", String(64), primary_key=True),
    Column("phase", String(16), nullable=False),
    Column("detail", Text, nullable=False),
    Column("source", String(255)),
    Column("updated_at", UtcDateTime, nullable=False),
)

idempotent_requests = Table(
    "idempotent_requests",
    metadata,
    Column("project_id", String(64), primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("fingerprint", String(64), nullable=False),
    Column("instance_id", String(36), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
)

# What a live server of the version told of its parameters: see domain.parameters.
parameters = Table(
    "parameters",
    metadata,
    Column("datastore", String(64), primary_key=True),
    Column("version", String(64), primary_key=True),
    Column("server_version", String(64), nullable=False),
    Column("catalogue", JSON, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("read_at", UtcDateTime, nullable=False),
)

# What an operator says of a parameter instead: see domain.parameters.Override.
parameter_overrides = Table(
    "parameter_overrides",
    metadata,
    Column("datastore", String(64), primary_key=True),
    Column("version", String(64), primary_key=True),
    Column("name", String(128), primary_key=True),
    Column("definition", JSON, nullable=False),
)

configurations = Table(
    "configurations",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("project_id", String(64), nullable=False),
    Column("name", String(255), nullable=False),
    Column("description", String(255)),
    Column("datastore", String(64), nullable=False),
    Column("version", String(64), nullable=False),
    Column("values", JSON, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Index("ix_configurations_project_id_id", "project_id", "id"),
)

configuration_revisions = Table(
    "configuration_revisions",
    metadata,
    Column("configuration_id", String(36), primary_key=True),
    Column("revision", Integer, primary_key=True),
    Column("values", JSON, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("by", String(255), nullable=False),
    Column("note", String(255), nullable=False, default=""),
)

# What an operator set for a project; the settings have the limits of the others.
quotas = Table(
    "quotas",
    metadata,
    Column("project_id", String(64), primary_key=True),
    Column("resource", String(32), primary_key=True),
    Column("hard_limit", Integer, nullable=False),
)

# What operators made of the catalog's versions: see domain.versions.
datastore_versions = Table(
    "datastore_versions",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("datastore", String(64), nullable=False),
    Column("name", String(64), nullable=False),
    Column("manager", String(64), nullable=False),
    Column("series", String(64)),
    Column("number", String(64)),
    Column("suite", String(64), nullable=False),
    Column("packages", JSON, nullable=False),
    Column("image_tags", JSON, nullable=False),
    Column("image", String(64)),
    Column("active", Boolean, nullable=False),
    Column("is_default", Boolean),
    Column("deleted", Boolean, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
)

# How much of each log of an instance is in the object store, in the account of the project that published it.
# `writing` is the object that is being written, `claimant` who writes.
instance_logs = Table(
    "instance_logs",
    metadata,
    Column("instance_id", String(36), primary_key=True),
    Column("account", String(64), primary_key=True),
    Column("name", String(64), primary_key=True),
    Column("begins", BigInteger, nullable=False),
    Column("ends", BigInteger, nullable=False),
    Column("rotated", BigInteger, nullable=False),
    Column("parts", Integer, nullable=False),
    Column("container", String(255), nullable=False),
    Column("prefix", String(255), nullable=False),
    Column("writing", String(255)),
    Column("claimant", String(36)),
    Column("claimed_at", UtcDateTime),
)

# Backups, also of instances that are gone: see domain.backup. The claim is as an instance's.
backups = Table(
    "backups",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("project_id", String(64), nullable=False),
    Column("name", String(255), nullable=False),
    Column("description", String(255)),
    Column("instance_id", String(36), nullable=False),
    Column("instance_name", String(255)),
    Column("datastore", String(64), nullable=False),
    Column("version", String(64), nullable=False),
    Column("status", String(16), nullable=False),
    Column("parent_id", String(36)),
    Column("store", String(16), nullable=False),
    Column("container", String(255), nullable=False),
    Column("prefix", String(255), nullable=False),
    Column("wrapped_key", Text, nullable=False),
    Column("size_bytes", BigInteger),
    Column("data_bytes", BigInteger),
    Column("volume_gb", Integer),
    Column("facts", JSON, nullable=False),
    Column("service", JSON, nullable=False),
    Column("operation_id", String(36)),
    Column("operation_kind", String(64)),
    Column("error", Text),
    Column("schedule_id", String(36)),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Column("completed_at", UtcDateTime),
    Column("elsewhere", Boolean, nullable=False, default=False),
    Column("leftovers", Boolean, nullable=False, default=False),
    Column("verified", Boolean),
    Column("verified_at", UtcDateTime),
    Column("verification", JSON, nullable=False, default=dict),
    Column("restore_s", Float),
    Index("ix_backups_project_id_updated_at", "project_id", "updated_at"),
    Index("ix_backups_instance_id_created_at", "instance_id", "created_at"),
    Index("ix_backups_parent_id", "parent_id"),
)

# Where a project's backups go, or an instance's; the project's own has no instance ("").
backup_strategies = Table(
    "backup_strategies",
    metadata,
    Column("project_id", String(64), primary_key=True),
    Column("instance_id", String(36), primary_key=True),
    Column("container", String(255), nullable=False),
)

# When an instance is backed up by itself, and what is kept: `full_every` n makes every n-th backup a full one.
backup_schedules = Table(
    "backup_schedules",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("project_id", String(64), nullable=False),
    Column("instance_id", String(36), nullable=False),
    Column("cron", String(255), nullable=False),
    Column("full_every", Integer, nullable=False),
    Column("keep_last", Integer),
    Column("keep_days", Integer),
    Column("verify_every_days", Integer),
    Column("enabled", Boolean, nullable=False),
    Column("next_run_at", UtcDateTime),
    Column("last_run_at", UtcDateTime),
    Column("running_id", String(36)),
    Column("last_backup_id", String(36)),
    Column("last_error", Text),
    Column("attempts", Integer, nullable=False, default=0),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Index("ix_backup_schedules_instance_id", "instance_id"),
    Index("ix_backup_schedules_next_run_at", "next_run_at"),
)

# The archive of an instance's log, from when it was switched on; the one without `ended_at` goes on.
log_archives = Table(
    "log_archives",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("project_id", String(64), nullable=False),
    Column("instance_id", String(36), nullable=False),
    Column("datastore", String(64), nullable=False),
    Column("version", String(64), nullable=False),
    Column("store", String(16), nullable=False),
    Column("container", String(255), nullable=False),
    Column("prefix", String(255), nullable=False),
    Column("wrapped_key", Text, nullable=False),
    Column("began_at", UtcDateTime, nullable=False),
    Column("ended_at", UtcDateTime),
    Column("ended_because", Text),
    # What its guest last told: how much is not archived yet, and why, when it cannot be.
    Column("lag_bytes", BigInteger),
    Column("told_at", UtcDateTime),
    Column("error", Text),
    Index("ix_log_archives_instance_id", "instance_id"),
)

# Segments that follow each other without a gap; everything until `until` is in them: see domain.log_archive.
log_stretches = Table(
    "log_stretches",
    metadata,
    Column("archive_id", String(36), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("starts", BigInteger, nullable=False),
    Column("ends", BigInteger, nullable=False),
    Column("until", UtcDateTime),
    Column("position", String(255)),
    Column("segments", Integer, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
)

# Whether an owner wants an instance's log archived, whatever its schedules.
log_archive_choices = Table(
    "log_archive_choices",
    metadata,
    Column("instance_id", String(36), primary_key=True),
    Column("wanted", Boolean, nullable=False),
)

# What is archived: one after the other, each beginning where the one before ends, in the engine's own count.
log_segments = Table(
    "log_segments",
    metadata,
    Column("archive_id", String(36), primary_key=True),
    Column("name", String(255), primary_key=True),
    Column("starts", BigInteger, nullable=False),
    Column("ends", BigInteger, nullable=False),
    Column("first_at", UtcDateTime),
    Column("last_at", UtcDateTime),
    Column("size_bytes", BigInteger, nullable=False),
    Column("facts", JSON, nullable=False),
    Column("archived_at", UtcDateTime, nullable=False),
    Index("ix_log_segments_archive_id_starts", "archive_id", "starts"),
)

# What a guest may read (GET) or write (PUT) of the store that backups are in, and for which operation.
grants = Table(
    "grants",
    metadata,
    Column("instance_id", String(36), primary_key=True),
    Column("container", String(255), primary_key=True),
    Column("prefix", String(255), primary_key=True),
    Column("method", String(8), primary_key=True),
    Column("operation_id", String(36)),
    Column("created_at", UtcDateTime, nullable=False),
    Index("ix_grants_operation_id", "operation_id"),
)

# What guests on machines are told of themselves, and how far their identity is: see domain.guest.
guests = Table(
    "guests",
    metadata,
    Column("instance_id", String(36), primary_key=True),
    Column("told", JSON, nullable=False),
    # How many identities it was given; of each, the key that it was spent on (SHA-256, hex).
    Column("identity", Integer, nullable=False, default=1),
    Column("key_digest", String(64)),
    Column("enrolled_at", UtcDateTime),
)

# Who runs workflows: those of one that is silent are taken over.
task_managers = Table(
    "task_managers",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("release", String(64), nullable=False),
    Column("started_at", UtcDateTime, nullable=False),
    Column("seen_at", UtcDateTime, nullable=False),
    # Since when others take over what it had begun.
    Column("lost_at", UtcDateTime),
)

# Who does what only one process is to do at a time, and until when nobody else may.
leases = Table(
    "leases",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("holder", String(64), nullable=False),
    Column("until", UtcDateTime, nullable=False),
)

# Facts that all processes of an installation must agree on, such as the fingerprints of its secrets.
installation = Table(
    "installation",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("value", Text, nullable=False),
)

# Where the platform and the metadata differ, or did: see platforms.base.Finding.
findings = Table(
    "findings",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("kind", String(64), nullable=False),
    Column("resource", String(255), nullable=False),
    Column("instance_id", String(36)),
    Column("message", Text, nullable=False),
    Column("repaired", Boolean, nullable=False),
    Column("found_at", UtcDateTime, nullable=False),
    Column("seen_at", UtcDateTime, nullable=False),
    Column("gone_at", UtcDateTime),
    Index("ix_findings_gone_at", "gone_at"),
    Index("ix_findings_instance_id", "instance_id"),
)
