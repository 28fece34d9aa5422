"""How names, hosts, passwords and grants are written in MariaDB's SQL, and read back. Touches no server."""

from __future__ import annotations

import hashlib
import ipaddress
import re
from functools import lru_cache

from pymysql.converters import escape_string

from argosy.domain.databases import UserId
from argosy.domain.errors import Invalid

# The server's own, and ours. The catalog tells users the same before a request gets here.
RESERVED_DATABASES = frozenset({"mysql", "information_schema", "performance_schema", "sys"})
RESERVED_USERS = frozenset({"root", "os_admin", "os_repl", "mariadb.sys", "mysql", "public"})
# Before a database's name: the account that owns what was loaded into it, see `dumps.py`.
OWNER_PREFIX = "os_db_"

# mysql.db.Db has as many characters. 11.8 cuts a longer pattern there without a word, 10.11 refuses it.
_PATTERN_LENGTH = 64
# A name after this is taken for that of a directory, as before MySQL 5.1 (11.8; 10.11 refuses it).
_RAW_NAME = "#mysql50#"


def identifier(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def literal(text: str) -> str:
    """Sound only while sql_mode has no NO_BACKSLASH_ESCAPES; the management session sees to that."""
    return f"'{escape_string(text)}'"


def account(user: UserId) -> str:
    return f"{literal(user.name)}@{literal(user.host)}"


def authentication(password: str) -> str:
    """The `IDENTIFIED` clause of a password, hashed here so that the server never sees the password itself.

    mysql_native_password stores SHA1(SHA1(password)) (manual, Authentication Plugin - mysql_native_password).
    It is what every usual client speaks; the page on the datastore weighs the others.
    """
    if not password:
        raise Invalid("A password must not be empty: an account with an empty one lets anybody in.")
    once = hashlib.sha1(_encoded(password, "password")).digest()  # noqa: S324  # the protocol's hash, not our choice
    twice = hashlib.sha1(once).hexdigest().upper()  # noqa: S324  # as above
    return f"IDENTIFIED VIA mysql_native_password USING '*{twice}'"


def check_database_name(name: str) -> None:
    """Raise Invalid for what the server would take for something else; the rest it refuses itself."""
    _check_characters(name, "Database name")
    if name.lower().startswith(_RAW_NAME):
        raise Invalid(f"Database name {name!r} must not begin with {_RAW_NAME}.")
    if len(pattern(name)) > _PATTERN_LENGTH:
        raise Invalid(
            f"Database name {name!r} must have at most {_PATTERN_LENGTH} characters with each '_', '%' and '\\' "
            f"counted twice, it has {len(pattern(name))}: nobody could be let into exactly this database."
        )


def check_user(user: UserId) -> None:
    """Raise Invalid for a name or host that MariaDB would store as another one, or that could never match."""
    _check_characters(user.name, "User name")
    if not user.name or user.name.endswith(" "):
        # Names are compared with trailing blanks ignored, and the empty name is the anonymous user's.
        raise Invalid(f"User name {user.name!r} must not be empty or end with a blank.")
    if is_reserved_user(user.name):
        raise Invalid(f"User name {user.name!r} is reserved: choose another.")
    check_host(user.host)


def is_reserved_user(name: str) -> bool:
    return name.lower() in RESERVED_USERS or name.lower().startswith(OWNER_PREFIX)


def owner_of(database: str) -> UserId:
    """The account of what was loaded into a database. No user is at `localhost`, which is the agent's."""
    return UserId(f"{OWNER_PREFIX}{database}", "localhost")


def is_reserved_database(name: str) -> bool:
    return name.lower() in RESERVED_DATABASES


def check_host(host: str) -> None:
    """Raise Invalid unless clients can be known by it: `%`, IPv4 with `%` for octets, or address/netmask.

    Host names are of no use because the server looks no address up (skip_name_resolve), and `localhost` is the
    Unix socket, which is the agent's.
    """
    if host == "%" or _is_address_pattern(host) or _network(host) is not None:
        return
    raise Invalid(
        f"Host {host!r} must be '%', an IPv4 address with '%' for any of its octets (10.0.0.%), "
        "or a network with its netmask (10.0.0.0/255.255.255.0); names of hosts are not looked up."
    )


def host_matches(host: str, address: str) -> bool:
    """Whether an account at `host` is open to a client at `address`, as the server decides it."""
    network = _network(host)
    if network is not None:
        try:
            return ipaddress.IPv4Address(address) in network
        except ValueError:
            return False
    return matches(host, address)


def host_rank(host: str) -> int:
    """Which of several matching hosts the server takes: the one with the highest rank.

    Hosts without wildcards come first, then those whose first wildcard stands furthest right (manual, Access
    Privileges).
    """
    wildcard = re.search("[%_]", host)
    return wildcard.start() if wildcard else len(host) + 1000


def pattern(database: str) -> str:
    r"""A database's name as GRANT ... ON takes it: there `_` and `%` are wildcards, and `\` takes that from them."""
    return re.sub(r"([\\_%])", r"\\\1", database)


def matches(written: str, name: str) -> bool:
    """Whether a pattern as stored in a grant or a host means this name."""
    return _compiled(written).fullmatch(name) is not None


@lru_cache(maxsize=256)
def _compiled(written: str) -> re.Pattern[str]:
    wild = {"%": ".*", "_": "."}
    parts = re.findall(r"\\(.)|(.)", written, re.DOTALL)
    expression = "".join(
        re.escape(kept) if kept else wild.get(plain, re.escape(plain)) for kept, plain in parts
    )
    return re.compile(expression, re.DOTALL)


def _is_address_pattern(host: str) -> bool:
    octets = host.split(".")
    return len(octets) == 4 and all(
        octet == "%" or (re.fullmatch(r"0|[1-9][0-9]{0,2}", octet, re.ASCII) and int(octet) < 256)
        for octet in octets
    )


def _network(host: str) -> ipaddress.IPv4Network | None:
    address, slash, mask = host.partition("/")
    if not (slash and _is_address_pattern(mask) and "%" not in mask):
        return None
    try:
        return ipaddress.IPv4Network((address, mask))
    except ValueError:
        return None


def _check_characters(name: str, what: str) -> None:
    _encoded(name, what)
    # The server's own tables are utf8mb3: a user's 4-byte character would be stored as '?'.
    if any(ord(character) > 0xFFFF for character in name):
        raise Invalid(
            f"{what} {name!r} must not hold characters beyond U+FFFF: MariaDB cannot store them in names."
        )
    if "\0" in name:
        raise Invalid(f"{what} {name!r} must not hold a zero byte.")


def _encoded(text: str, what: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise Invalid(f"A {what.lower()} must be valid Unicode text.") from error
