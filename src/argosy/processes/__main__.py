"""`python -m argosy.processes`: start, look at and stop the processes of a home on this machine."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

from argosy import settings as configuration
from argosy.domain.errors import ArgosyError
from argosy.processes import home
from argosy.settings import Settings


def main() -> int:
    arguments = argparse.ArgumentParser(prog="argosy", description=__doc__)
    commands = arguments.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="start api, conductor and taskmanager in one process")
    up.add_argument("--listen", metavar="HOST:PORT", help="where the API listens (127.0.0.1:8779)")
    up.add_argument("--detach", action="store_true", help="return when ready, leaving it running")
    serve = commands.add_parser("serve", help="run one part as a process of its own")
    serve.add_argument("part", choices=home.PARTS)
    down = commands.add_parser("down", help="stop the control plane; databases keep serving")
    down.add_argument("--all", action="store_true", help="stop the databases too")
    commands.add_parser("status", help="which parts run, as JSON")
    database = commands.add_parser(
        "db", help="the metadata database: bring it to this release, or look at it"
    )
    database.add_argument("what", choices=("upgrade", "status"))
    for command in (up, serve, down, database, commands.choices["status"]):
        command.add_argument("--home", type=Path, default=configuration.default_home())
    asked = arguments.parse_args()
    place = asked.home.absolute()
    if getattr(asked, "listen", None):
        os.environ["ARGOSY_API__LISTEN"] = asked.listen
    try:
        settings = configuration.read(place)
        match asked.command:
            case "up":
                return _detach(settings) if asked.detach else _run(settings, home.PARTS)
            case "serve":
                return _run(settings, (asked.part,))
            case "down":
                return _down(settings, databases_too=asked.all)
            case "db":
                return _database(settings, upgrades=asked.what == "upgrade")
            case _:
                print(json.dumps({part: home.facts(place, part) for part in home.PARTS}))  # noqa: T201 - its output
                return 0
    except (ArgosyError, OSError, home.Running) as error:
        print(f"argosy: {error}", file=sys.stderr)  # noqa: T201 - its output
        return 1
    except Exception as error:
        if not _is_silent_database(error):
            raise
        print(f"argosy: The metadata database does not answer: {error.__cause__}", file=sys.stderr)  # noqa: T201 - its output
        return 1


def _is_silent_database(error: Exception) -> bool:
    # Nothing that only looks at processes should wait for SQLAlchemy to be loaded.
    known = sys.modules.get("sqlalchemy.exc")
    return known is not None and isinstance(error, known.OperationalError)


def _run(settings: Settings, parts: tuple[str, ...]) -> NoReturn:
    from argosy.processes.run import run

    # What is one process may bring its database along; of several, one after the other is replaced.
    run(settings, parts, migrates=parts == home.PARTS)


def _database(settings: Settings, *, upgrades: bool) -> int:
    """Tell the state of the metadata database as JSON, after it was brought to this release if asked."""
    from argosy.metadata import migrations
    from argosy.metadata.locks import alone
    from argosy.metadata.store import Store

    settings.home.mkdir(mode=0o755, parents=True, exist_ok=True)
    store = Store(settings.database_url)
    try:
        before = migrations.state(store.engine, store.url)
        if upgrades:
            with alone(store.engine, "start"):
                migrations.migrate(store.engine, store.url)
        state = migrations.state(store.engine, store.url)
        told: dict[str, Any] = {
            "revision": state.revision,
            "wanted": migrations.HEAD,
            "current": state.is_current,
            "newer": state.is_newer,
            "oldest": state.oldest,
            "usable": state.is_usable,
            "before": before.revision,
        }
        if state.is_usable:
            with store.read() as tx:
                told["leader"] = tx.leases.holder("sweeps")
                told["task_managers"] = [
                    {
                        "id": one.id,
                        "release": one.release,
                        "started_at": one.started_at.isoformat(),
                        "seen_at": one.seen_at.isoformat(),
                        "lost": one.lost_at is not None,
                    }
                    for one in tx.task_managers.all()
                ]
    finally:
        store.close()
    print(json.dumps(told))  # noqa: T201 - its output
    return 0


def _detach(settings: Settings, timeout_s: float = 60) -> int:
    """Start the control plane as a process that outlives this one, and wait until it is ready."""
    place = settings.home
    running = {part: said for part in home.PARTS if (said := home.facts(place, part))}
    if 0 < len(running) < len(home.PARTS):
        # Some parts run by `argosy serve`: the missing ones are to be started that way too.
        raise home.Running(*next((part, said.get("pid", 0)) for part, said in running.items()))
    said = running.get("api")
    if said is None:
        logs = place / "logs"
        logs.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (logs / "argosy.log").open("ab") as log:
            began = log.tell()
            child = subprocess.Popen(
                [sys.executable, "-m", "argosy.processes", "up", "--home", str(place)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd="/",
            )
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            said = home.facts(place, "api")
            if said and said.get("ready"):
                break
            if child.poll() is not None:
                return _tell_end_of_log(logs / "argosy.log", began)
            time.sleep(0.02)
    if not said or not said.get("ready"):
        print(f"argosy: not ready after {timeout_s:.0f} s, see {place}/logs/argosy.log", file=sys.stderr)  # noqa: T201 - its output
        return 1
    print(said["welcome"])  # noqa: T201 - its output
    return 0


def _tell_end_of_log(log: Path, began: int) -> int:
    lines = log.read_bytes()[began:].decode(errors="replace").splitlines()
    print("\n".join(["argosy: it did not start; its log ends with:", *lines[-8:]]), file=sys.stderr)  # noqa: T201 - its output
    return 1


def _down(settings: Settings, *, databases_too: bool) -> int:
    stopped = home.stop(settings.home)
    print(f"Stopped: {', '.join(stopped)}." if stopped else "Nothing was running.")  # noqa: T201 - its output
    if databases_too:
        from argosy.processes.databases import stop_all

        for name, how in stop_all(settings):
            print(f"Database {name}: {how}.")  # noqa: T201 - its output
    elif stopped:
        print("Databases keep serving; `argosy up` takes them up again, `argosy down --all` stops them too.")  # noqa: T201 - its output
    return 0


if __name__ == "__main__":
    sys.exit(main())
