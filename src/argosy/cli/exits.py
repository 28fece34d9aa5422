"""What the command ends with: scripts branch on these, docs/cli.md lists them."""

from __future__ import annotations

from argosy.client import errors

OK = 0
FAILED = 1
USAGE = 2
NOT_FOUND = 3
BUSY = 4
NOT_ALLOWED = 5
UNREACHABLE = 6
TIMED_OUT = 7

_BY_ERROR: tuple[tuple[type[errors.ClientError], int], ...] = (
    (errors.NotFound, NOT_FOUND),
    (errors.Conflict, BUSY),
    (errors.Busy, BUSY),
    (errors.Unauthorized, NOT_ALLOWED),
    (errors.Forbidden, NOT_ALLOWED),
    (errors.Invalid, USAGE),
    (errors.Ambiguous, USAGE),
    (errors.NotConfigured, UNREACHABLE),
    (errors.Unreachable, UNREACHABLE),
    (errors.TimedOut, TIMED_OUT),
)


def code_of(error: errors.ClientError) -> int:
    for kind, code in _BY_ERROR:
        if isinstance(error, kind):
            return code
    return FAILED
