"""A real Swift on this machine: OpenStack's own servers, one of each, in a directory that is removed afterwards.

They are installed from PyPI into an environment of their own, once per machine, as they need other releases of some
libraries than we do.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from tests.support.server import own_network, wait_until

RELEASE = "swift==2.38.3"
USER, PASSWORD = "test:tester", "testing"
_PORTS = {"object": 6200, "container": 6201, "account": 6202}
# In the place of memcached, for one proxy: tempauth keeps its tokens there.
_CACHE = """
from time import time as now

class Cache(dict):
    def __bool__(self):
        return True

    def get(self, key, *args, **kwargs):
        value, until = super().get(key, (None, 0))
        return value if until > now() else None

    def set(self, key, value, time=0, **kwargs):
        self[key] = (value, now() + (time or 86400))

    def incr(self, key, delta=1, time=0, **kwargs):
        self.set(key, (self.get(key) or 0) + delta, time)
        return self.get(key)

    decr = incr

    def delete(self, key, *args, **kwargs):
        self.pop(key, None)

def filter_factory(global_conf, **local_conf):
    kept = Cache()
    def filter(app):
        def run(env, start_response):
            env["swift.cache"] = kept
            return app(env, start_response)
        return run
    return filter
"""
_PIPELINES = {
    "proxy": "catch_errors gatekeeper healthcheck cache listing_formats bulk tempurl s3api tempauth slo proxy-logging proxy-server",
    "object": "object-server",
    "container": "container-server",
    "account": "account-server",
}


def _programs() -> Path:
    place = Path(os.environ.get("ARGOSY_TEST_SWIFT") or f"/var/tmp/argosy-swift-{os.getuid()}")
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (place / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        ready = place / f"{RELEASE}.ready"
        if not ready.exists():
            shutil.rmtree(place / "venv", ignore_errors=True)
            try:
                _install(place / "venv")
            except (OSError, subprocess.SubprocessError) as error:
                said = getattr(error, "stderr", None) or str(error).encode()
                why = f"no Swift can be had here: {said.decode(errors='replace')[-300:]}"
                if "ARGOSY_TEST_LONG" in os.environ:
                    pytest.fail(why)
                pytest.skip(why)
            ready.touch()
    return place / "venv/bin"


def _install(place: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--python", str(place / "bin/python"), "install", "-q"]
    make = [sys.executable, "-m", "venv", "--without-pip", str(place)]
    for command in (make, [*pip, RELEASE, "setuptools<81"]):
        subprocess.run(command, check=True, capture_output=True, timeout=250)


def _configuration(home: Path, name: str, address: str, port: int) -> Path:
    text = f"""\
[DEFAULT]
bind_ip = {address}
bind_port = {port}
swift_dir = {home}
devices = {home}/devices
mount_check = false
workers = 0
user = {subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()}
log_address = {home}/nowhere
disable_fallocate = true

[pipeline:main]
pipeline = {_PIPELINES[name]}

[app:{name}-server]
use = egg:swift#{name}
"""
    if name == "proxy":
        text += "account_autocreate = true\nallow_account_management = true\n"
        for middleware in _PIPELINES[name].split()[:-1]:
            how = f"use = egg:swift#{middleware.replace('-', '_')}"
            if middleware == "cache":
                how = "paste.filter_factory = argosy_memory_cache:filter_factory"
            text += f"\n[filter:{middleware}]\n{how}\n"
            if middleware == "s3api":
                text += "location = us-east-1\n"
            if middleware == "tempauth":
                text += f"user_test_tester = {PASSWORD} .admin\n"
    file = home / f"{name}-server.conf"
    file.write_text(text)
    return file


@contextmanager
def running_swift() -> Iterator[str]:
    """The URL where it lets users in."""
    programs = _programs()
    # A path in which extended attributes may be kept, as on most file systems but tmpfs.
    home = Path(tempfile.mkdtemp(prefix="argosy-swift-", dir="/var/tmp"))
    children: list[subprocess.Popen[bytes]] = []
    try:
        with own_network() as network:
            address = str(network[2])
            (home / "devices/d1").mkdir(parents=True)
            (home / "swift.conf").write_text(
                "[swift-hash]\nswift_hash_path_suffix = tests\n[storage-policy:0]\nname = one\ndefault = yes\n"
            )
            (home / "argosy_memory_cache.py").write_text(_CACHE)
            for kind, port in _PORTS.items():
                ring = home / f"{kind}.builder"
                for command in (
                    ["create", "2", "1", "0"],
                    ["add", f"r1z1-{address}:{port}/d1", "1"],
                    ["rebalance"],
                ):
                    subprocess.run(
                        [programs / "swift-ring-builder", ring, *command],
                        check=True,
                        capture_output=True,
                        timeout=60,
                    )
            with (home / "log").open("wb") as log:
                for name, port in {**_PORTS, "proxy": 8080}.items():
                    children.append(
                        subprocess.Popen(
                            [programs / f"swift-{name}-server", _configuration(home, name, address, port)],
                            stdin=subprocess.DEVNULL,
                            stdout=log,
                            stderr=log,
                            env={**os.environ, "PYTHONPATH": str(home)},
                        )
                    )
                    listens = partial(_listens, address, port, children[-1], home)
                    wait_until(f"swift's {name} server listens", listens, 60)
            yield f"http://{address}:8080/auth/v1.0"
    finally:
        for child in children:
            child.kill()
            child.wait()
        shutil.rmtree(home, ignore_errors=True)


def _listens(address: str, port: int, child: subprocess.Popen[bytes], home: Path) -> bool:
    assert child.poll() is None, (home / "log").read_text()[-3000:]
    with socket.socket() as probe:
        return probe.connect_ex((address, port)) == 0
