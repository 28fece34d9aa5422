"""The head of a snapshot tells its format and how many keys its first database has, or as much as it can."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from argosy.engines.valkey.rdb import Head, read_head

AUX = b"\xfa\x09redis-ver\x066.2.14\xfa\x05ctime\xc2\x00\x11\x22\x33\xfa\x08used-mem\xc1\x00\x04\xfa\x02me\xc1\x01\x02"
LONG = b"\xf5\x41\x00" + b"x" * 256
COMPRESSED = b"\xf5\xc3\x04\x40\xff" + b"abcd"


@pytest.mark.parametrize(
    ("head", "told"),
    [
        (b"REDIS0010" + AUX + b"\xfe\x00\xfb\x03\x01", Head("REDIS0010", 1024, 0, 3, 1)),
        (b"VALKEY080" + AUX + LONG + b"\xfe\x07\xfb\x41\x00\x00", Head("VALKEY080", 1024, 7, 256, 0)),
        (
            b"REDIS0011" + COMPRESSED + b"\xfe\x00\xfb\x80\x00\x01\x00\x00\x05",
            Head("REDIS0011", 0, 0, 65536, 5),
        ),
        (b"REDIS0011\xfe\x00\xfb\x81" + b"\0" * 3 + b"\1" + b"\0" * 5, Head("REDIS0011", 0, 0, 2**32, 0)),
        (b"REDIS0011" + AUX + b"\xff" + b"\0" * 8, Head("REDIS0011", 1024)),
        (b"REDIS0011" + AUX + b"\xf7\x05", Head("REDIS0011", 1024)),
        (b"REDIS0011" + LONG[:90], Head("REDIS0011")),
        (b"-ERR no", None),
        (b"", None),
    ],
)
def test_a_head_is_read(head: bytes, told: Head | None) -> None:
    assert read_head(head) == told


@given(st.binary(max_size=100))
def test_no_head_is_too_strange(head: bytes) -> None:
    read = read_head(b"REDIS0011" + head)
    assert read is not None
    assert read.format == "REDIS0011"
