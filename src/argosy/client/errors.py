"""What can go wrong between a client and the API.

::

    ClientError
    ├── NotConfigured      no server is named, or what names it cannot be read
    ├── Unreachable        nothing answers there
    ├── TimedOut           it took longer than the caller would wait; it goes on by itself
    ├── Ambiguous          several things have this name
    ├── KeptByKeystone     the accounts are not Argosy's own, and it changes none
    ├── OperationFailed    what was asked for was begun, and failed
    └── Refused            the server said no
        ├── Invalid        400: the request cannot be right
        ├── Unauthorized   401
        ├── Forbidden      403
        ├── NotFound       404; also a name that nothing here has
        ├── Conflict       409
        ├── OverLimit      413
        ├── Busy           422: not in this state
        └── Unsupported    501
"""

from __future__ import annotations

from collections.abc import Sequence


class ClientError(Exception):
    """Base of them all. `code` is stable: programs branch on it, never on the sentence."""

    code = "client-error"

    def __init__(self, sentence: str, *, code: str | None = None) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        if code is not None:
            self.code = code


class NotConfigured(ClientError):
    code = "not-configured"


class Unreachable(ClientError):
    code = "unreachable"


class TimedOut(ClientError):
    code = "timed-out"


class Ambiguous(ClientError):
    code = "ambiguous"

    def __init__(self, what: str, name: str, ids: Sequence[str]) -> None:
        super().__init__(f"{len(ids)} {what}s are named {name!r}: use an id, one of {', '.join(ids)}.")
        self.ids = tuple(ids)


class KeptByKeystone(ClientError):
    code = "kept-by-keystone"

    def __init__(self) -> None:
        super().__init__(
            "Users, projects and roles of this Argosy are Keystone's: use `openstack user`, `openstack project` and "
            "`openstack role`."
        )


class OperationFailed(ClientError):
    code = "operation-failed"


class Refused(ClientError):
    """`status` is the answer's HTTP status."""

    code = "refused"
    status = 500

    def __init__(self, sentence: str, *, code: str | None = None, status: int | None = None) -> None:
        super().__init__(sentence, code=code)
        if status is not None:
            self.status = status


class Invalid(Refused):
    code, status = "invalid", 400


class Unauthorized(Refused):
    code, status = "unauthorized", 401


class Forbidden(Refused):
    code, status = "forbidden", 403


class NotFound(Refused):
    code, status = "not-found", 404


class Conflict(Refused):
    code, status = "conflict", 409


class OverLimit(Refused):
    code, status = "over-limit", 413


class Busy(Refused):
    code, status = "busy", 422


class Unsupported(Refused):
    code, status = "unsupported", 501


BY_STATUS: dict[int, type[Refused]] = {
    each.status: each
    for each in (Invalid, Unauthorized, Forbidden, NotFound, Conflict, OverLimit, Busy, Unsupported)
}
