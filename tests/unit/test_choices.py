"""What an owner chose, and other files of an instance, are written by several of the agent's threads."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from argosy.engines import choices
from argosy.engines.host import Account, Host


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(
        instance_id="i", version="1", bundle=tmp_path, template=tmp_path, data=tmp_path, etc=tmp_path, run=tmp_path,
        logs=tmp_path, address="", port=0, memory_mb=1, vcpus=1, tls=None, account=Account.own(),
    )  # fmt: skip


def test_what_is_chosen_at_the_same_time_is_all_kept(host: Host) -> None:
    def choose(field: str, values: Sequence[object]) -> None:
        for value in values:
            choices.change(host, **{field: value})
            assert getattr(choices.read(host), field) == value

    with ThreadPoolExecutor(3) as threads:
        done = [
            threads.submit(choose, "parameters", [{"n": str(number)} for number in range(50)]),
            threads.submit(choose, "logs", [(str(number),) for number in range(50)]),
            threads.submit(choose, "allowed_cidrs", [(f"10.0.0.{number}",) for number in range(50)]),
        ]
    for one in done:
        one.result()
    assert choices.read(host) == choices.Choices({"n": "49"}, ("49",), ("10.0.0.49",))


def test_a_file_that_two_write_at_once_is_one_of_theirs(host: Host) -> None:
    texts = [letter * 5000 for letter in "abc"]

    def write(text: str) -> None:
        for _ in range(50):
            host.write_file(host.etc / "file", text)

    with ThreadPoolExecutor(3) as threads:
        done = [threads.submit(write, text) for text in texts]
    for one in done:
        one.result()
    assert (host.etc / "file").read_text() in texts
    assert [file.name for file in host.etc.iterdir()] == ["file"]
