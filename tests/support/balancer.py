"""The real HAProxy, with the sample configuration that Argosy comes with, in front of two of each."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from argosy.domain.datastore import DebianSource
from argosy.platforms.local import bundles, debian

SAMPLE = Path(__file__).parents[2] / "deploy" / "haproxy.cfg"
_SOCKET = "haproxy.sock"


def program() -> Path:
    """The host's, else Debian's, unpacked once per machine."""
    installed = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")
    if installed is not None:
        return Path(installed)
    place = Path(f"/var/tmp/argosy-haproxy-{os.getuid()}")
    found = place / "bundle" / "usr" / "sbin" / "haproxy"
    suite = debian.Suite(place / "apt", "bookworm", debian.host_mirror(), debian.keyring())
    with suite.taken():
        if not found.exists():
            suite.update()
            packages = place / "packages"
            packages.mkdir(exist_ok=True)
            files = suite.download(suite.closure(DebianSource("bookworm", ("haproxy",))), packages)
            shutil.rmtree(place / "new", ignore_errors=True)
            bundles.build(files, place / "new", place / "bundle")
            (place / "new").rename(place / "bundle")
    return found


def configuration(replacements: Mapping[str, str]) -> str:
    """The sample, with a test's addresses in the place of its own, and without TLS for users."""
    text = SAMPLE.read_text().replace(" ssl crt /etc/haproxy/argosy.pem", "")
    for sample, own in replacements.items():
        assert sample in text, f"the sample configuration does not have {sample}"
        text = re.sub(rf"{re.escape(sample)}\b", own, text)
    return text


def sends_to(place: Path, server: str) -> bool:
    """Whether a server of the configuration is sent requests by now.

    The sixth word of its state is 2 then (HAProxy's Management Guide, show servers state).
    """
    with socket.socket(socket.AF_UNIX) as asking:
        asking.connect(str(place / _SOCKET))
        asking.sendall(b"show servers state\n")
        with asking.makefile() as answer:
            states = [line.split() for line in answer]
    return any(words[5] == "2" for words in states if words[3:4] == [server])


@contextmanager
def balancing(place: Path, replacements: Mapping[str, str]) -> Iterator[None]:
    file = place / "haproxy.cfg"
    asked_at = f"global\n    stats socket {place / _SOCKET}\n"
    file.write_text(configuration(replacements).replace("global\n", asked_at, 1))
    with (place / "haproxy.log").open("ab") as log:
        process = subprocess.Popen(
            [program(), "-db", "-f", file], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/"
        )
    try:
        yield
    finally:
        process.kill()
        process.wait()
