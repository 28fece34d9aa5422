"""A real backup is read without Argosy: the page's scripts, and the engine's own programs, bring the data back."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support import backup_format, images
from tests.support.backups import Shop, back_up, delete_backup, made
from tests.support.server import Client, Server, wait_until

ENGINES = ["valkey", "mariadb", "postgresql"] if os.environ.get("ARGOSY_TEST_LONG") else ["valkey"]
# Servers refuse to run as root.
NOBODY: dict[str, Any] = {"user": 65534, "group": 65534, "extra_groups": []} if os.geteuid() == 0 else {}


@pytest.mark.parametrize("datastore", ENGINES)
def test_a_backup_comes_back_without_argosy(argosy: Server, demo: Client, datastore: str) -> None:
    instance = made(argosy, demo, f"read-{datastore}", datastore, flavorRef="1")
    with closing(Shop(argosy, instance)) as shop:
        shop.put(1, 2, 3)
    backup = back_up(demo, instance["id"])
    assert backup["status"] == "COMPLETED", backup["argosy"]["error"]
    # Short, since the paths of Unix sockets are; open, since servers run under another account.
    place = argosy.home / "by-hand"
    place.mkdir(mode=0o777)
    place.chmod(0o777)
    try:
        facts = extract(argosy, f"{instance['id']}/{backup['id']}/", place)
        bundle, _ = images.image(datastore, instance["datastore"]["version"])
        assert READ[datastore](bundle, place, facts) == [1, 2, 3]
    finally:
        shutil.rmtree(place)
    delete_backup(demo, backup["id"])
    demo.delete(f"/instances/{instance['id']}")
    argosy.wait_until_gone(demo, instance["id"])


def extract(argosy: Server, prefix: str, place: Path) -> dict[str, Any]:
    """Leaves the stream in `place`; returns the facts."""
    fetched = backup_format.run("fetch.py", place, argosy.home / "backups", prefix, place / "objects")
    assert fetched.returncode == 0, fetched.stderr
    keys = argosy.home / "secrets" / "backup-keys"
    extracted = backup_format.run("extract.py", place, place / "objects", keys)
    assert extracted.returncode == 0, extracted.stderr
    (place / "stream").write_bytes(extracted.stdout)
    found: dict[str, Any] = json.loads(extracted.stderr)
    return found


def printed(command: Sequence[str | Path], told: str = "") -> str:
    done = subprocess.run(
        [str(word) for word in command],
        input=told,
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        **NOBODY,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return str(done.stdout)


@contextmanager
def serving(command: Sequence[str | Path], socket: Path, log: Path) -> Iterator[None]:
    with log.open("wb") as said:
        server = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            cwd="/",
            **NOBODY,
        )
    try:

        def listens() -> bool:
            assert server.poll() is None, log.read_text()[-2000:]
            return socket.exists()

        wait_until("the server listens", listens)
        yield
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(60)


def data_directory(place: Path) -> Path:
    directory = place / "data"
    directory.mkdir(mode=0o700)
    if NOBODY:
        os.chown(directory, 65534, 65534)
    return directory


def read_valkey(bundle: Path, place: Path, facts: dict[str, Any]) -> list[int]:
    data, socket = data_directory(place), place / "s"
    with (place / "stream").open("rb") as stream:
        (data / "dump.rdb").write_bytes(stream.read(facts["rdb_bytes"]))
    (data / "dump.rdb").chmod(0o644)
    programs = bundle / "usr/bin"
    command: list[str | Path] = [
        programs / "valkey-server",
        "--port",
        "0",
        "--unixsocket",
        socket,
        "--dir",
        data,
        "--appendonly",
        "no",
    ]
    with serving(command, socket, place / "log"):
        keys = printed([programs / "valkey-cli", "-s", socket, "--raw", "HKEYS", "written"])
    return sorted(int(key) for key in keys.split())


def read_mariadb(bundle: Path, place: Path, _facts: dict[str, Any]) -> list[int]:
    data, socket = data_directory(place), place / "s"
    programs = bundle / "usr/bin"
    with (place / "stream").open("rb") as stream:
        subprocess.run([programs / "mbstream", "-x", "-C", data], stdin=stream, check=True, **NOBODY)
    printed([programs / "mariadb-backup", "--no-defaults", "--prepare", f"--target-dir={data}"])
    command: list[str | Path] = [
        bundle / "usr/sbin/mariadbd", "--no-defaults", f"--datadir={data}", f"--socket={socket}", "--skip-networking",
        "--skip-grant-tables", f"--pid-file={place}/data/pid", f"--lc-messages-dir={bundle}/usr/share/mariadb",
        f"--character-sets-dir={bundle}/usr/share/mariadb/charsets", f"--plugin-dir={bundle}/usr/lib/mysql/plugin",
    ]  # fmt: skip
    with serving(command, socket, place / "log"):
        query = "SELECT k FROM written"
        told = printed(
            [
                programs / "mariadb",
                "--no-defaults",
                "--skip-ssl",
                "-S",
                socket,
                "-N",
                "-B",
                "shop",
                "-e",
                query,
            ]
        )
    return sorted(int(line) for line in told.split())


def read_postgresql(bundle: Path, place: Path, _facts: dict[str, Any]) -> list[int]:
    data = data_directory(place)
    subprocess.run(["tar", "-x", "-C", data, "-f", place / "stream"], check=True)
    if NOBODY:
        subprocess.run(["chown", "-R", "65534:65534", data], check=True)
    # Whatever settings the instance had lie beside its data, not in it.
    settings = place / "settings"
    settings.write_text("")
    (postgres,) = (bundle / "usr/lib/postgresql").glob("*/bin/postgres")
    told = printed(
        [postgres, "--single", "-D", data, "-c", f"config_file={settings}", "shop"],
        "SELECT key FROM written\n",
    )
    return sorted(
        int(line.partition('"')[2].partition('"')[0]) for line in told.splitlines() if '= "' in line
    )


READ = {"valkey": read_valkey, "mariadb": read_mariadb, "postgresql": read_postgresql}
