"""The accounts of the built-in identity in the metadata database."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    RowMapping,
    Select,
    Table,
    delete,
    insert,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from argosy.domain.errors import Conflict, NameTaken
from argosy.domain.identity import ApplicationCredential, Assignment, Project, Role, Session, Token, User
from argosy.metadata.identity_tables import assignments, credentials, projects, roles, tokens, users

Record = TypeVar("Record", Project, User, Role)


class Accounts:
    """Implements `identity.store.AccountStore`, where what each call promises is written."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    # Projects

    def project(self, project_id: str) -> Project | None:
        return self._one(Project, select(projects).where(projects.c.id == project_id))

    def project_named(self, name: str) -> Project | None:
        return self._one(Project, select(projects).where(projects.c.name == name))

    def projects(self) -> list[Project]:
        return self._all(Project, select(projects).order_by(projects.c.name))

    def projects_of(self, user_id: str) -> list[Project]:
        mine = select(assignments.c.project_id).where(assignments.c.user_id == user_id)
        return self._all(Project, select(projects).where(projects.c.id.in_(mine)).order_by(projects.c.name))

    def add_project(self, project: Project) -> None:
        with self._naming("project", project.name) as connection:
            connection.execute(insert(projects), asdict(project))

    def change_project(self, project: Project) -> None:
        with self._naming("project", project.name) as connection:
            connection.execute(update(projects).where(projects.c.id == project.id), asdict(project))
            if not project.enabled:
                connection.execute(delete(tokens).where(tokens.c.project_id == project.id))

    def delete_project(self, project_id: str) -> None:
        with self._engine.begin() as connection:
            _delete_with_dependants(connection, projects, project_id, "project_id")

    # Users

    def user(self, user_id: str) -> User | None:
        return self._one(User, select(users).where(users.c.id == user_id))

    def user_named(self, name: str) -> User | None:
        return self._one(User, select(users).where(users.c.name == name))

    def users(self) -> list[User]:
        return self._all(User, select(users).order_by(users.c.name))

    def add_user(self, user: User) -> None:
        with self._naming("user", user.name) as connection:
            connection.execute(insert(users), asdict(user))

    def change_user(self, user: User, *, end_sessions: bool) -> None:
        with self._naming("user", user.name) as connection:
            connection.execute(update(users).where(users.c.id == user.id), asdict(user))
            if end_sessions:
                connection.execute(delete(tokens).where(tokens.c.user_id == user.id))

    def replace_hash(self, user_id: str, old: str, new: str) -> None:
        with self._engine.begin() as connection:
            connection.execute(
                update(users)
                .where(users.c.id == user_id, users.c.password_hash == old)
                .values(password_hash=new)
            )

    def delete_user(self, user_id: str) -> None:
        with self._engine.begin() as connection:
            _delete_with_dependants(connection, users, user_id, "user_id")

    # Roles and who has them

    def role(self, role_id: str) -> Role | None:
        return self._one(Role, select(roles).where(roles.c.id == role_id))

    def roles(self) -> list[Role]:
        return self._all(Role, select(roles).order_by(roles.c.name))

    def add_role(self, role: Role) -> None:
        with self._naming("role", role.name) as connection:
            connection.execute(insert(roles), asdict(role))

    def change_role(self, role: Role) -> None:
        with self._naming("role", role.name) as connection:
            connection.execute(update(roles).where(roles.c.id == role.id), asdict(role))

    def delete_role(self, role_id: str) -> None:
        with self._engine.begin() as connection:
            _lock(connection, roles, role_id)
            connection.execute(delete(assignments).where(assignments.c.role_id == role_id))
            connection.execute(delete(roles).where(roles.c.id == role_id))

    def assignments(
        self, *, user_id: str | None = None, project_id: str | None = None, role_id: str | None = None
    ) -> list[Assignment]:
        asked = {"user_id": user_id, "project_id": project_id, "role_id": role_id}
        where = [assignments.c[name] == value for name, value in asked.items() if value is not None]
        with self._engine.connect() as connection:
            rows = connection.execute(select(assignments).where(*where)).mappings()
            return sorted(Assignment(**row) for row in rows)

    def roles_of(self, user_id: str, project_id: str) -> list[Role]:
        return self._all(Role, _roles_of(user_id, project_id))

    def grant(self, assignment: Assignment) -> None:
        try:
            with self._engine.begin() as connection:
                if connection.execute(select(assignments).where(*_same(assignment))).first() is None:
                    connection.execute(insert(assignments), asdict(assignment))
        except IntegrityError as error:
            # Either a twin granted it in between, or one of the three was deleted.
            if assignment not in self.assignments(user_id=assignment.user_id):
                sentence = "The user, the project or the role was deleted meanwhile."
                raise Conflict(sentence) from error

    def withdraw(self, assignment: Assignment) -> bool:
        with self._engine.begin() as connection:
            found = connection.execute(delete(assignments).where(*_same(assignment))).rowcount > 0
            connection.execute(
                delete(tokens).where(
                    tokens.c.user_id == assignment.user_id, tokens.c.project_id == assignment.project_id
                )
            )
        return found

    # Application credentials

    def credential(self, credential_id: str) -> ApplicationCredential | None:
        return self._credential(credentials.c.id == credential_id)

    def credential_named(self, user_id: str, name: str) -> ApplicationCredential | None:
        return self._credential(credentials.c.user_id == user_id, credentials.c.name == name)

    def credentials_of(self, user_id: str) -> list[ApplicationCredential]:
        query = select(credentials).where(credentials.c.user_id == user_id).order_by(credentials.c.name)
        with self._engine.connect() as connection:
            return [_credential(row) for row in connection.execute(query).mappings()]

    def add_credential(self, credential: ApplicationCredential) -> None:
        with self._naming("application credential", credential.name) as connection:
            connection.execute(insert(credentials), asdict(credential))

    def delete_credential(self, credential_id: str) -> None:
        with self._engine.begin() as connection:
            _lock(connection, credentials, credential_id)
            connection.execute(delete(tokens).where(tokens.c.application_credential_id == credential_id))
            connection.execute(delete(credentials).where(credentials.c.id == credential_id))

    # Tokens

    def add_token(self, token: Token, password_hashes: Collection[str | None]) -> bool:
        try:
            with self._engine.begin() as connection:
                # Write first: it takes SQLite's write lock, and PostgreSQL's lock on the user's row follows, so
                # that a change of password is either seen here or deletes this token.
                connection.execute(insert(tokens), asdict(token))
                user = connection.execute(
                    select(users.c.password_hash)
                    .where(users.c.id == token.user_id, users.c.enabled)
                    .with_for_update(read=True)
                ).first()
                if user is None or user.password_hash not in password_hashes:
                    connection.rollback()
                    return False
        except IntegrityError:
            return False
        return True

    def session(self, digest: str) -> Session | None:
        with self._engine.connect() as connection:
            row = connection.execute(select(tokens).where(tokens.c.digest == digest)).mappings().first()
            if row is None:
                return None
            token = Token(**{**row, "methods": tuple(row["methods"])})
            user = _first(connection, User, select(users).where(users.c.id == token.user_id))
            if user is None:
                return None
            project: Project | None = None
            held: tuple[Role, ...] = ()
            credential: ApplicationCredential | None = None
            if token.project_id is not None:
                project = _first(
                    connection, Project, select(projects).where(projects.c.id == token.project_id)
                )
                found = connection.execute(_roles_of(token.user_id, token.project_id)).mappings()
                held = tuple(Role(**role) for role in found)
            if token.application_credential_id is not None:
                credential = _first_credential(
                    connection, credentials.c.id == token.application_credential_id
                )
                if credential is None:
                    return None
        return Session(token, user, project, held, credential)

    def delete_token(self, digest: str) -> bool:
        with self._engine.begin() as connection:
            return connection.execute(delete(tokens).where(tokens.c.digest == digest)).rowcount > 0

    def delete_expired(self, now: datetime) -> int:
        with self._engine.begin() as connection:
            return connection.execute(delete(tokens).where(tokens.c.expires_at <= now)).rowcount

    # How

    def _one(self, kind: type[Record], query: Select[Any]) -> Record | None:
        with self._engine.connect() as connection:
            return _first(connection, kind, query)

    def _all(self, kind: type[Record], query: Select[Any]) -> list[Record]:
        with self._engine.connect() as connection:
            return [kind(**row) for row in connection.execute(query).mappings()]

    def _credential(self, *where: ColumnElement[bool]) -> ApplicationCredential | None:
        with self._engine.connect() as connection:
            return _first_credential(connection, *where)

    @contextmanager
    def _naming(self, what: str, name: str) -> Iterator[Connection]:
        """A transaction whose only uniqueness that can fail is a name's."""
        try:
            with self._engine.begin() as connection:
                yield connection
        except IntegrityError as error:
            raise NameTaken(what=what, name=name) from error


def _first(connection: Connection, kind: type[Record], query: Select[Any]) -> Record | None:
    row = connection.execute(query).mappings().first()
    return None if row is None else kind(**row)


def _first_credential(connection: Connection, *where: ColumnElement[bool]) -> ApplicationCredential | None:
    row = connection.execute(select(credentials).where(*where)).mappings().first()
    return None if row is None else _credential(row)


def _credential(row: RowMapping) -> ApplicationCredential:
    return ApplicationCredential(**{**row, "role_ids": tuple(row["role_ids"])})


def _roles_of(user_id: str, project_id: str) -> Select[Any]:
    held = select(assignments.c.role_id).where(
        assignments.c.user_id == user_id, assignments.c.project_id == project_id
    )
    return select(roles).where(roles.c.id.in_(held)).order_by(roles.c.name)


def _same(assignment: Assignment) -> list[ColumnElement[bool]]:
    return [assignments.c[name] == value for name, value in asdict(assignment).items()]


def _lock(connection: Connection, table: Table, record_id: str) -> None:
    connection.execute(select(table.c.id).where(table.c.id == record_id).with_for_update())


def _delete_with_dependants(connection: Connection, table: Table, record_id: str, column: str) -> None:
    # The row is locked first: a login under way waits, and then finds nothing to hang a token on. SQLite has one
    # writer anyway, and keeps foreign keys only when asked to. Tokens hang on application credentials, so they go first.
    _lock(connection, table, record_id)
    for dependant in (tokens, credentials, assignments):
        connection.execute(delete(dependant).where(dependant.c[column] == record_id))
    connection.execute(delete(table).where(table.c.id == record_id))
