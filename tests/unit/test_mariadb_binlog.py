"""What is read out of a binary log file, wherever the server stopped writing it."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from argosy.domain.errors import EngineError, Invalid
from argosy.engines.mariadb.binlog import BinlogFile, Gtid, State

QUERY, ROTATE, FORMAT, XID, ROWS, GTID, GTID_LIST = 2, 4, 15, 16, 23, 162, 163


def event(kind: int, at: int, body: bytes = b"", server: int = 1) -> bytes:
    return struct.pack("<IBIIIH", at, kind, server, 19 + len(body), 0, 0) + body


def gtid(sequence: int, at: int, *, standalone: bool = False) -> bytes:
    return event(GTID, at, struct.pack("<QIB", sequence, 0, int(standalone)) + bytes(6))


HEAD = b"\xfebin" + event(FORMAT, 100, bytes(50))
LISTED = event(
    GTID_LIST, 100, struct.pack("<I", 2) + struct.pack("<IIQ", 0, 9, 4) + struct.pack("<IIQ", 0, 1, 5)
)
TRANSACTIONS = (
    gtid(6, 101) + event(ROWS, 101, bytes(30)) + event(XID, 102, bytes(8)),
    gtid(7, 103, standalone=True) + event(QUERY, 103, b"CREATE TABLE t (i INT)" + bytes(4)),
    gtid(8, 104) + event(ROWS, 104, bytes(9)) + event(QUERY, 105, b"COMMIT" + b"\1\2\3\4"),
    gtid(9, 106) + event(QUERY, 106, b"INSERT INTO t VALUES (1)") + event(XID, 106, bytes(8)),
)


def file_of(directory: Path, content: bytes) -> BinlogFile:
    path = directory / "mysql-bin.000001"
    path.write_bytes(content)
    return BinlogFile(path)


def test_transactions_follow_each_other_from_any_of_them_on(tmp_path: Path) -> None:
    content = HEAD + LISTED + b"".join(TRANSACTIONS) + event(ROTATE, 110, bytes(20))
    file = file_of(tmp_path, content)
    found = list(file.transactions())
    assert [str(one.gtid) for one in found] == ["0-1-6", "0-1-7", "0-1-8", "0-1-9"]
    assert [one.at for one in found] == [101, 103, 104, 106]
    assert [one.ends - one.begins for one in found] == [len(one) for one in TRANSACTIONS]
    assert list(file.transactions(found[2].begins)) == found[2:]
    assert file.opened_at() == 100
    assert file.begins_after() == "0-9-4,0-1-5"
    assert file.has_transactions()
    assert not file_of(tmp_path, HEAD + LISTED).has_transactions()


def test_a_torn_end_has_whole_transactions_only(tmp_path: Path) -> None:
    whole = HEAD + LISTED + b"".join(TRANSACTIONS)
    ends = [
        len(HEAD + LISTED) + sum(map(len, TRANSACTIONS[: number + 1])) for number in range(len(TRANSACTIONS))
    ]
    for length in range(len(HEAD), len(whole) + 1):
        found = [one.ends for one in file_of(tmp_path, whole[:length]).transactions()]
        assert found == [end for end in ends if end <= length], length


def test_what_is_no_binary_log_is_refused(tmp_path: Path) -> None:
    for content in (b"", b"\xfebin", b"rubbish" * 20):
        with pytest.raises(EngineError):
            file_of(tmp_path, content).opened_at()


def test_a_state_has_the_last_of_each_server_the_newest_last() -> None:
    state = State("0-1-5,0-2-6,7-1-3")
    assert (state.position, state.place) == ("0-2-6,7-1-3", "0-2-6")
    state.add(Gtid(0, 1, 7))
    assert (str(state), state.position) == ("0-2-6,0-1-7,7-1-3", "0-1-7,7-1-3")
    assert state.includes(Gtid(0, 9, 7))
    assert not state.includes(Gtid(0, 1, 8))
    assert not state.includes(Gtid(3, 1, 1))
    assert str(State()) == State().place == ""


@pytest.mark.parametrize("text", ["", "0-1", "0-1-x", "0-1-2-3", "0-1-2,0-1-3", "-1-2-3", "0-1-٣"])
def test_what_is_no_gtid_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match="is no GTID"):
        Gtid.parse(text)
