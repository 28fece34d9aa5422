"""The agent's code is known by what is in it, and is taken by a machine only when it is what was meant."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from argosy.agent import config_drive, renewal
from argosy.agent.config_drive import NoConfigDrive
from argosy.agent.layout import Layout
from argosy.agent.renewal import BadCode
from argosy.rpc import agent_code


def packed(**files: str) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as tar:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text.encode()))
    return content.getvalue()


def test_what_is_packed_is_what_an_agent_needs_and_nothing_of_the_control_plane(tmp_path: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(agent_code.pack())) as tar:
        names = set(tar.getnames())
        tar.extractall(tmp_path, filter="data")
    assert {"argosy/agent/machine.py", "argosy/agent/machine_files/argosy-agent", "argosy/marks.py"} <= names
    parts = {name.split("/")[1] for name in names}
    assert not parts & {"api", "cli", "client", "conductor", "metadata", "platforms", "taskmanager"}
    assert not [name for name in names if name.endswith(".pyc")]
    assert agent_code.digest_of(tmp_path / "argosy") == agent_code.digest()


def test_what_python_makes_of_the_code_meanwhile_is_none_of_it(tmp_path: Path) -> None:
    """What importlib writes has a name that ends in a number, which is another one or gone a moment later."""
    (tmp_path / "agent/__pycache__").mkdir(parents=True)
    (tmp_path / "agent/rpc.py").write_text("x = 1\n")
    digest = agent_code.digest_of(tmp_path)
    (tmp_path / "agent/__pycache__/rpc.cpython-311.pyc.140234567").write_bytes(b"half")
    assert agent_code.digest_of(tmp_path) == digest


@pytest.mark.parametrize("name", ["../outside", "/etc/outside", "argosy/../../outside"])
def test_code_that_would_be_written_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    layout = Layout(tmp_path / "root")
    with pytest.raises(BadCode):
        renewal.install(layout, packed(**{name: "x"}), "0" * 64, lambda _: None)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    "content", [b"", b"no archive", packed(argosy="x")[:-20]], ids=["empty", "no archive", "cut short"]
)
def test_what_is_no_code_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(BadCode):
        renewal.install(Layout(tmp_path), content, "0" * 64, lambda _: None)
    assert not (tmp_path / "opt/argosy/agent/current").is_symlink()


@pytest.mark.parametrize(
    ("text", "says"),
    [(None, "has no openstack/latest/user_data"), ("#!/bin/sh\n", "not Argosy's"), ("{}", "not Argosy's")],
)
def test_a_config_drive_that_is_not_ours_is_not_taken_for_one(
    tmp_path: Path, text: str | None, says: str
) -> None:
    place = tmp_path / "openstack/latest"
    place.mkdir(parents=True)
    if text is not None:
        (place / "user_data").write_text(text)
    with pytest.raises(NoConfigDrive, match=says):
        config_drive.read(tmp_path, tmp_path)
