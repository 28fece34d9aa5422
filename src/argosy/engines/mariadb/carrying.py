"""Carrying users from one server to another: the statements that make them and their grants, as the server tells them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from argosy.domain.databases import UserId
from argosy.domain.errors import ArgosyError, EngineNotReady, Invalid
from argosy.engines.backups import KeepsAccounts
from argosy.engines.mariadb import databases, sql
from argosy.engines.mariadb.management import AccountLost, Management, Session

_FORMAT = "mariadb accounts 1"
_PUBLIC = "PUBLIC"
_NAME = r"`(?:[^`]|``)*`"
# GRANT ... ON `a\_b`.* TO ...: of a whole database. Names of columns may stand before, in backticks.
_ON_DATABASE = re.compile(rf"GRANT (?:[^`]|{_NAME})*? ON ({_NAME})\.\* TO ")


@dataclass(frozen=True)
class _Account:
    """`create` is what makes it; a role has none. `grants` come after all accounts are there."""

    name: str
    host: str
    is_role: bool
    create: str
    grants: tuple[str, ...]


class MariaDbAccounts(KeepsAccounts):
    management: Management

    def dump_accounts(self) -> str:
        with self.management.session() as session:
            session.run("SET SESSION sql_quote_show_create = 1")
            accounts = [_told(session, *row) for row in _every(session)]
        return json.dumps({"format": _FORMAT, "accounts": [asdict(account) for account in accounts]})

    def load_accounts(self, dump: str) -> list[str]:
        wanted = _read(dump)
        remarks: list[str] = []
        with self.management.session() as session:
            for name, host, is_role in _every(session):
                if is_role and name.upper() == _PUBLIC:
                    session.run(f"REVOKE ALL PRIVILEGES, GRANT OPTION FROM {_PUBLIC}")
                else:
                    session.run(
                        f"DROP {'ROLE' if is_role else 'USER'} {_written(name, host, is_role=is_role)}"
                    )
            for account in wanted:
                if account.create:
                    remarks += _try(session, account, account.create)
            there = databases.names(session)
            # What an account is may be granted to another, so roles come first.
            for account in sorted(wanted, key=lambda one: not one.is_role):
                for grant in account.grants:
                    if (database := _missing(grant, there)) is not None:
                        remarks.append(
                            f"A grant of {_shown(account)} was left out: there is no database {database!r}."
                        )
                    else:
                        remarks += _try(session, account, grant)
        return remarks


def _every(session: Session) -> list[tuple[str, str, bool]]:
    """Users, root and roles, but none of the server's own and ours."""
    rows = session.run(
        "SELECT User, Host, JSON_VALUE(Priv, '$.is_role') IS NOT NULL FROM mysql.global_priv ORDER BY User, Host"
    )
    return [
        (str(name), str(host), bool(is_role))
        for name, host, is_role in rows
        if is_role or str(name) == "root" or not sql.is_reserved_user(str(name))
    ]


def _told(session: Session, name: str, host: str, is_role: bool) -> _Account:
    written = _written(name, host, is_role=is_role)
    grants = [str(row[0]) for row in session.run(f"SHOW GRANTS FOR {written}")]
    if is_role:
        create = "" if name.upper() == _PUBLIC else f"CREATE ROLE {written}"
        # A role's grants name those of roles it has, too, which are these roles' to tell.
        own = f" TO {sql.identifier(name)}"
        grants = [grant for grant in grants if name.upper() == _PUBLIC or own in grant]
    else:
        ((told,),) = session.run(f"SHOW CREATE USER {written}")
        create = str(told)
    return _Account(name, host, is_role, create, tuple(grants))


def _written(name: str, host: str, *, is_role: bool) -> str:
    if is_role and name.upper() == _PUBLIC:
        return _PUBLIC
    return sql.literal(name) if is_role else sql.account(UserId(name, host))


def _read(dump: str) -> list[_Account]:
    try:
        stored: dict[str, Any] = json.loads(dump)
        if stored["format"] != _FORMAT:
            raise Invalid("The accounts were written by another release in a form that is not known here.")
        return [_Account(**{**one, "grants": tuple(one["grants"])}) for one in stored["accounts"]]
    except (ValueError, KeyError, TypeError) as error:
        raise Invalid("The accounts are not what this engine writes.") from error


def _missing(grant: str, there: Iterable[str]) -> str | None:
    """The database of a grant that would be on none that is there; it may be a pattern."""
    found = _ON_DATABASE.match(grant)
    if found is None:
        return None
    pattern = found[1][1:-1].replace("``", "`")
    if any(sql.matches(pattern, name) for name in (*there, *sql.RESERVED_DATABASES)):
        return None
    return re.sub(r"\\(.)", r"\1", pattern)


def _try(session: Session, account: _Account, statement: str) -> list[str]:
    """Run it, or say why not; statements have hashes of passwords in them and are not shown."""
    try:
        session.run(statement)
    except (EngineNotReady, AccountLost):
        raise
    except ArgosyError as error:
        what = "It" if statement == account.create else "A grant"
        return [f"{what} of {_shown(account)} was left out. {error.sentence}"]
    return []


def _shown(account: _Account) -> str:
    return (
        f"role {account.name!r}" if account.is_role else f"user {str(UserId(account.name, account.host))!r}"
    )
