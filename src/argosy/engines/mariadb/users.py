"""Users and their passwords."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from argosy.domain.databases import NewUser, User, UserChange, UserId
from argosy.domain.errors import ArgosyError, EngineError, UserExists, UserNotFound
from argosy.engines.base import Users
from argosy.engines.mariadb import access, accounts, sessions, sql
from argosy.engines.mariadb.management import Management, Session


class MariaDbUsers(Users):
    management: Management

    def list_users(self) -> list[User]:
        with self.management.session() as session:
            return accounts.users(session)

    def get_user(self, user: UserId) -> User:
        with self.management.session() as session:
            found = {listed.id: listed for listed in accounts.users(session)}
        if user not in found:
            raise UserNotFound(name=user.name, host=user.host)
        return found[user]

    def create_users(self, users: Sequence[NewUser]) -> None:
        with self.management.session() as session:
            _check_free(session, [user.id for user in users])
            authentications = [sql.authentication(user.password) for user in users]
            access.check_databases(session, [name for user in users for name in user.databases])
            made: list[UserId] = []
            try:
                for user, authentication in zip(users, authentications, strict=True):
                    # OR REPLACE takes grants away that were left behind without their user, and would refuse it.
                    session.run(f"CREATE OR REPLACE USER {sql.account(user.id)} {authentication}")
                    made.append(user.id)
                    access.grant(session, user.id, user.databases)
            except ArgosyError:
                # The server judges lengths, so a refusal may come after the first ones.
                for identity in made:
                    session.run(f"DROP USER IF EXISTS {sql.account(identity)}")
                raise

    def update_user(self, user: UserId, change: UserChange) -> None:
        renamed = UserId(
            user.name if change.name is None else change.name,
            user.host if change.host is None else change.host,
        )
        with self.management.session() as session:
            accounts.check_exists(session, user)
            if renamed != user:
                _check_free(session, [renamed], but=user)
            # The password first: whoever repeats the request after a crash still finds the old name.
            restore = _restoring(session, user)
            if change.password is not None:
                session.run(f"ALTER USER {sql.account(user)} {sql.authentication(change.password)}")
            if renamed == user:
                return
            before = accounts.every(session)
            try:
                session.run(f"RENAME USER {sql.account(user)} TO {sql.account(renamed)}")
            except ArgosyError:
                restore()
                raise
            # Under the old name it would keep its access, out of reach of a later revoke.
            sessions.end(session, lambda running: running.account(before) == user)

    def delete_user(self, user: UserId) -> None:
        with self.management.session() as session:
            accounts.check_exists(session, user)
            before = accounts.every(session)
            # Nobody logs in again between the two; MariaDB lets those who are in stay.
            session.run(f"DROP USER IF EXISTS {sql.account(user)}")
            sessions.end(session, lambda running: running.account(before) == user)


def _check_free(session: Session, wanted: Sequence[UserId], *, but: UserId | None = None) -> None:
    """Raise Invalid for names and hosts that cannot be, UserExists for those that are or come twice."""
    taken = {_key(user) for user in accounts.every(session) if user != but}
    for user in wanted:
        sql.check_user(user)
        if _key(user) in taken:
            raise UserExists(name=user.name, host=user.host)
        taken.add(_key(user))


def _key(user: UserId) -> tuple[str, str]:
    """What the server tells accounts apart by: it ignores blanks at the end of names."""
    return user.name.rstrip(" "), user.host


def _restoring(session: Session, user: UserId) -> Callable[[], None]:
    """What puts the account's authentication back as it is now."""
    ((statement,),) = session.run(f"SHOW CREATE USER {sql.account(user)}")
    verb, space, rest = str(statement).partition(" ")
    if verb != "CREATE":
        raise EngineError("SHOW CREATE USER answered something else.")

    def restore() -> None:
        session.run(f"ALTER{space}{rest}")

    return restore
