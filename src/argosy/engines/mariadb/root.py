"""The administrator's account a user may have: `root@'%'`, with every privilege; the agent's is another."""

from __future__ import annotations

from argosy.domain.databases import UserId
from argosy.engines.base import RootAccess
from argosy.engines.mariadb import accounts, sessions, sql
from argosy.engines.mariadb.management import Management

_ROOT = "root"


class MariaDbRoot(RootAccess):
    root_name = _ROOT
    management: Management

    def enable_root(self, password: str) -> None:
        account = sql.account(UserId(_ROOT))
        authentication = sql.authentication(password)
        with self.management.session() as session:
            session.run(f"CREATE USER IF NOT EXISTS {account} {authentication}")
            # For one that was there: whatever it was made into, it is root again.
            session.run(
                f"ALTER USER {account} {authentication} REQUIRE NONE PASSWORD EXPIRE NEVER ACCOUNT UNLOCK"
            )
            session.run(f"GRANT ALL PRIVILEGES ON *.* TO {account} WITH GRANT OPTION")

    def disable_root(self) -> None:
        with self.management.session() as session:
            # At any host: root may have made itself another door.
            for user in accounts.every(session):
                if user.name == _ROOT:
                    session.run(f"DROP USER IF EXISTS {sql.account(user)}")
            sessions.end(session, lambda running: running.user == _ROOT)
