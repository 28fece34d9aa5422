"""`argosy image build` refuses what it cannot build before it begins, and says what it can."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.command_line import CommandLine

OUTPUT = "/var/tmp/never-made.qcow2"


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        (["postgresql", "17"], "Say where the image goes by --output FILE"),
        (["postgresql", "16", "--output", OUTPUT], "PostgreSQL has no version '16': it has 18, 17, 15."),
        (["postgres", "17", "--output", OUTPUT], "There is no datastore 'postgres'"),
        (
            ["postgresql", "17", "--output", OUTPUT, "--size-gb", "0"],
            "--size-gb must be from 1 to 64, not 0.",
        ),
        (["postgresql", "17", "--output", OUTPUT, "--snapshot", "yesterday"], "not 'yesterday'"),
        (["postgresql", "17", "--output", OUTPUT, "--package-list", "/etc/hostname"], "is no package list"),
        (["postgresql", "17", "--output", OUTPUT, "--ssh-key", "/etc/hostname"], "must hold public SSH keys"),
    ],
)
def test_what_cannot_be_built_is_said_at_once(tmp_path: Path, asked: list[str], answer: str) -> None:
    argosy = CommandLine(tmp_path)
    assert answer in argosy("image", "build", *asked, code=1).err
    assert answer in argosy("image", "build", *asked, "--json", code=1).err


def test_a_cloud_has_to_be_named_for_an_image_to_be_registered(tmp_path: Path) -> None:
    argosy = CommandLine(tmp_path)
    assert (
        "openstack.cloud in argosy.toml" in argosy("image", "build", "valkey", "9", "--register", code=1).err
    )
