"""Logs: PostgreSQL writes one stream, whatever it has to say, and three logs are its entries told apart.

An entry is written whole, by one write. It begins with a line of a severity that stands alone, which what belongs
to it follows: lines of DETAIL, HINT, CONTEXT, STATEMENT and the like, and lines that begin with a tab, as all of an
entry's own line breaks are followed by one (elog.c, append_with_tabs).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from argosy.domain.logs import ERROR
from argosy.engines.logs import LayeredLogs, Log

_BEGINS = re.compile(rb"(?:^|[ \]])(DEBUG[1-5]?|INFO|NOTICE|WARNING|ERROR|LOG|FATAL|PANIC):  ")
_FOLLOWS = re.compile(rb"(?:^|[ \]])(?:DETAIL|HINT|QUERY|CONTEXT|LOCATION|BACKTRACE|STATEMENT):  ")
_SLOW = re.compile(rb"duration: ")
_GENERAL = re.compile(
    rb"statement: |execute |parse |bind |fastpath function call|connection |disconnection: "
)


class PostgresLogs(LayeredLogs):
    """The agent's own sessions switch off what of this they can: see `session.py`."""

    def files(self) -> Sequence[Log]:
        stream = self.server.log
        return (
            Log("general", stream, "log_statement", lambda line: _is(line, "general")),
            Log("slow_query", stream, "log_min_duration_statement", lambda line: _is(line, "slow_query")),
            Log(ERROR, stream, None, lambda line: _is(line, ERROR)),
        )


def _is(line: bytes, name: str) -> bool | None:
    kind = kind_of(line)
    return None if kind is None else kind == name


def kind_of(line: bytes) -> str | None:
    """The log that a line is of; None when it goes with the line before it."""
    if line.startswith(b"\t"):
        return None
    begins, follows = _BEGINS.search(line), _FOLLOWS.search(line)
    if follows is not None and (begins is None or follows.start() < begins.start()):
        return None
    if begins is None or begins[1] != b"LOG":
        return ERROR
    if _SLOW.match(line, begins.end()):
        return "slow_query"
    return "general" if _GENERAL.match(line, begins.end()) else ERROR
