"""The tables of the built-in identity. Names are unique, as within Keystone's one default domain."""

from __future__ import annotations

from sqlalchemy import JSON, Boolean, Column, ForeignKey, String, Table, Text, UniqueConstraint

from argosy.metadata.tables import UtcDateTime, metadata

projects = Table(
    "identity_projects",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("name", String(64), nullable=False, unique=True),
    Column("description", Text, nullable=False),
    Column("enabled", Boolean, nullable=False),
)

users = Table(
    "identity_users",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("name", String(255), nullable=False, unique=True),
    Column("password_hash", String(255)),
    Column("email", String(255)),
    Column("description", Text, nullable=False),
    # Not a foreign key: Keystone lets the default project of a user be gone.
    Column("default_project_id", String(32)),
    Column("enabled", Boolean, nullable=False),
)

roles = Table(
    "identity_roles",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("name", String(255), nullable=False, unique=True),
    Column("description", Text, nullable=False),
)

assignments = Table(
    "identity_assignments",
    metadata,
    Column("user_id", ForeignKey(users.c.id), primary_key=True),
    Column("project_id", ForeignKey(projects.c.id), primary_key=True, index=True),
    Column("role_id", ForeignKey(roles.c.id), primary_key=True, index=True),
)

credentials = Table(
    "identity_application_credentials",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("user_id", ForeignKey(users.c.id), nullable=False),
    Column("project_id", ForeignKey(projects.c.id), nullable=False, index=True),
    Column("name", String(255), nullable=False),
    Column("secret_hash", String(255), nullable=False),
    Column("role_ids", JSON, nullable=False),
    Column("description", Text, nullable=False),
    Column("expires_at", UtcDateTime),
    Column("unrestricted", Boolean, nullable=False),
    UniqueConstraint("user_id", "name"),
)

tokens = Table(
    "identity_tokens",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("user_id", ForeignKey(users.c.id), nullable=False, index=True),
    Column("project_id", ForeignKey(projects.c.id), index=True),
    Column("application_credential_id", ForeignKey(credentials.c.id), index=True),
    Column("methods", JSON, nullable=False),
    Column("audit_id", String(32), nullable=False),
    Column("issued_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False, index=True),
)
