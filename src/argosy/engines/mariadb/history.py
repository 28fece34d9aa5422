"""Which history an instance's data is of.

A restore begins another: what the server writes from there on follows the backup, not what the instance had in between,
so binary logs and increments of the one mean nothing to the other. A file in the data directory, which no backup has,
says which it is, and where its binary log is: beside the data, in a directory of its own. So whichever data directory
is put in place brings its log with it, and the other's stays whole until its data is gone.
"""

from __future__ import annotations

import json
import re
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path

from argosy.engines import staging
from argosy.engines.host import Host

_FILE = "argosy-history.json"
_DIRECTORY = re.compile(r"binlog-[0-9a-f]{8}")


@dataclass(frozen=True)
class History:
    """`log` is its directory's name. `gtids` are those that its first transaction follows."""

    log: str = "binlog"
    gtids: str = ""


def of(data: Path) -> History:
    """Of this data directory. One that was never restored has the first."""
    try:
        told = json.loads((data / _FILE).read_text())
        found = History(str(told["log"]), str(told["gtids"]))
    except (OSError, ValueError, KeyError, TypeError):
        return History()
    return found if _DIRECTORY.fullmatch(found.log) else History()


def begin(host: Host, data: Path, gtids: str) -> None:
    """Have this data directory, which was restored, be of a new history."""
    new = History(f"binlog-{secrets.token_hex(4)}", gtids)
    host.write_file(data / _FILE, json.dumps(asdict(new)))


def name(host: Host) -> str:
    """What tells it from every other instance's."""
    return f"{host.instance_id}/{of(host.data).log}"


def open_log(host: Host) -> None:
    """Before a start: the directory of the binary log, and what it goes on from.

    A server without any binary log takes the state file for its GTIDs, as one that was copied without them (sql/log.cc,
    do_binlog_recovery).
    """
    history = of(host.data)
    log = host.data.parent / history.log
    if not log.is_dir():
        host.make_directory(log)
        if history.gtids:
            host.write_file(log / "mysql-bin.state", "\n".join(history.gtids.split(",")) + "\n")
    host.make_directory(log)


def tidy(host: Host) -> None:
    """Remove binary logs whose data is not there any more."""
    volume = host.data.parent
    places = {place.name for place in volume.iterdir() if place.is_dir()}
    wanted = {of(volume / name).log for name in places if (volume / name / "ibdata1").is_file()}
    if places != {place.name for place in volume.iterdir() if place.is_dir()}:
        return  # data is being exchanged, and may have been read under its former name
    for name in places - wanted:
        if name == History.log or _DIRECTORY.fullmatch(name):
            staging.remove(volume / name)
