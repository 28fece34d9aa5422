"""/instances/{id}/log: an instance's logs, switched on and off, and published into the object store (contract 2.9)."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, StrictStr

from argosy.api.call import Asked, Call
from argosy.api.route import faults, resource
from argosy.api.v1 import shapes
from argosy.api.v1.bodies import Body
from argosy.domain.errors import Busy, Conflict, Forbidden, GuestUnreachable, Invalid, NotFound
from argosy.domain.instance import Instance
from argosy.domain.logs import (
    CONTAINER,
    GUEST,
    KEPT_S,
    PART_MAX,
    GuestLog,
    Published,
    cut,
    is_rotated,
    pending,
    status,
    type_of,
)
from argosy.rpc import messages
from argosy.storage.base import ContainerNotFound, ObjectNotFound, put

router = resource("logs")

_LOG = "/instances/{instance_id}/log"
# Of another publisher of the same log.
_PATIENCE_S, _AGAIN_S = 30.0, 0.05


def _flag(value: Any) -> Any:
    """0 or 1 (contract 2.9), and what JSON calls by their right names."""
    if isinstance(value, bool) or (isinstance(value, int) and value in (0, 1)):
        return bool(value)
    raise ValueError("must be 0 or 1")


Flag = Annotated[bool, BeforeValidator(_flag)]


class LogBody(Body):
    name: Annotated[StrictStr, Field(min_length=1, max_length=64)]
    enable: Flag = False
    disable: Flag = False
    publish: Flag = False
    discard: Flag = False


@router.get(_LOG, response_model=shapes.Logs, responses=faults(404))
def list_logs(call: Asked, instance_id: str) -> dict[str, Any]:
    """The logs there are for the caller, their switches, and how much of each is published."""
    call.allow("instance:guest_log_list")
    instance = call.instance(instance_id)
    guest = logs_of(call, instance)
    with call.read() as tx:
        published = tx.logs.published(instance.id, call.project_id)
    shown = [name for name in names_of(call, instance) if may_see(call, name)]
    return {"logs": [_view(call, instance, name, guest.get(name), published.get(name)) for name in shown]}


@router.post(_LOG, response_model=shapes.ShownLog, responses=faults(400, 404, 415, 422, 503))
def act_on_log(call: Asked, instance_id: str, body: LogBody) -> dict[str, Any]:
    """Show a log; or enable, disable, discard and publish it, in this order. Publishing enables."""
    acts = body.enable or body.disable or body.publish or body.discard
    call.allow("instance:guest_log_action" if acts else "instance:guest_log_list")
    instance = call.instance(instance_id)
    name = check_name(call, instance, body.name)
    if not may_see(call, name):
        raise Forbidden(f"The log {name} is for administrators.", code="log-not-exposed")
    if body.enable and body.disable:
        raise Invalid("Validation error: enable and disable exclude each other.")
    is_system = type_of(name) == "SYS"
    if is_system and (body.enable or body.disable) and not body.publish:
        raise Invalid(f"The log {name} is always on: it can be published, neither enabled nor disabled.")
    if not is_system and (body.enable or body.disable or body.publish):
        _switch(call, instance, name, on=not body.disable)
    if body.discard or body.publish:
        with _claimed(call, instance, name) as publishing:
            if body.discard:
                publishing.discard()
            if body.publish:
                publishing.publish()
    log = logs_of(call, instance).get(name)
    with call.read() as tx:
        published = tx.logs.published(instance.id, call.project_id).get(name)
    return {"log": _view(call, instance, name, log, published)}


def names_of(call: Call, instance: Instance) -> list[str]:
    return [*call.datastore_of(instance).logs, GUEST]


def check_name(call: Call, instance: Instance, name: str) -> str:
    """Raises Invalid for a log that the datastore has not (contract 2.9)."""
    names = names_of(call, instance)
    if name not in names:
        raise Invalid(
            f"The log {name!r} is not defined for {call.datastore_of(instance).title}: choose one of "
            f"{', '.join(names)}.",
            code="log-undefined",
        )
    return name


def may_see(call: Call, name: str) -> bool:
    if type_of(name) == "USER":
        return True
    try:
        call.allow("instance:guest_log:system")
    except Forbidden:
        return False
    return True


def logs_of(call: Call, instance: Instance) -> dict[str, GuestLog]:
    """What the guest tells, by name; nothing, when it does not answer."""
    if instance.address is None:
        return {}
    try:
        told = call.guest(instance, messages.ListLogs())
    except GuestUnreachable:
        return {}
    return {log.name: GuestLog(**log.model_dump()) for log in told.logs}


def _switch(call: Call, instance: Instance, name: str, *, on: bool) -> None:
    before = logs_of(call, instance).get(name)
    if before is not None and before.is_on is on and not before.waits:
        return
    call.guest(instance, messages.SwitchLog(name=name, on=on))
    word = "on" if on else "off"
    with call.write() as tx:
        tx.events.add(
            instance.project_id,
            instance.id,
            "log.switched",
            f"The log {name} was switched {word}.",
            call.caller.user_name,
        )


def _view(
    call: Call, instance: Instance, name: str, log: GuestLog | None, published: Published | None
) -> dict[str, Any]:
    # A prefix under which there is nothing, clients stumble over.
    stored = published if published is not None and published.parts else None
    return {
        "name": name,
        "type": type_of(name),
        "status": status(log, published),
        "published": published.ends - published.begins if published else 0,
        "pending": pending(log, published),
        "container": stored.container if stored else "None",
        "prefix": stored.prefix if stored else "None",
        "metafile": _metafile(call, instance, name),
    }


def _prefix(call: Call, instance: Instance, name: str) -> str:
    return f"{instance.id}/{call.datastore_of(instance).name}-{name}/"


def _metafile(call: Call, instance: Instance, name: str) -> str:
    return f"{_prefix(call, instance, name).rstrip('/')}_metafile"


@contextmanager
def _claimed(call: Call, instance: Instance, name: str) -> Iterator[_Publishing]:
    """Publish as the only one. Raises Busy when another does, and goes on for long."""
    claimant = str(uuid.uuid4())
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        with call.write() as tx:
            held, interrupted = tx.logs.claim(instance.id, call.project_id, name, claimant)
        if held:
            break
        if time.monotonic() > deadline:
            raise Busy(f"The log {name} is being published by another request: try again in a moment.")
        time.sleep(_AGAIN_S)
    try:
        yield _Publishing(call, instance, name, claimant, interrupted)
    finally:
        with call.write() as tx:
            tx.logs.release(instance.id, call.project_id, name, claimant)


class _Publishing:
    """One log on its way into the caller's account."""

    def __init__(
        self, call: Call, instance: Instance, name: str, claimant: str, interrupted: str | None
    ) -> None:
        self._call = call
        self._instance = instance
        self._name = name
        self._claimant = claimant
        self._interrupted = interrupted
        self._account = call.project_id
        self._prefix = _prefix(call, instance, name)
        self._metafile = _metafile(call, instance, name)
        self._objects = call.parts.objects

    def discard(self) -> None:
        """Delete what is published; the instance's own log stays as it is."""
        try:
            while stored := self._objects.objects(self._account, CONTAINER, prefix=self._prefix):
                for one in stored:
                    if one.stored is not None:
                        self._delete(one.stored.name)
            self._delete(self._metafile)
        except ContainerNotFound:
            pass
        self._interrupted = None
        with self._call.write() as tx:
            self._check(tx.logs.forget(self._instance.id, self._account, self._name, self._claimant))

    def publish(self) -> None:
        """Add what is not published yet; all that there is, anew, when the log was rotated since."""
        log = self._read(None, limit=1).log
        guest = GuestLog(**log.model_dump())
        with self._call.read() as tx:
            published = tx.logs.published(self._instance.id, self._account).get(self._name)
        if is_rotated(guest, published):
            self.discard()
            published = None
        if published is None:
            published = Published(log.begins, log.begins, log.rotated, 0, CONTAINER, self._prefix)
        self._objects.create_container(self._account, CONTAINER)
        # What is written meanwhile is for the next time, or this might never end.
        end, position, held = log.ends, max(published.ends, log.begins), b""
        while True:
            part = self._read(position, limit=PART_MAX)
            moved = part.next > position
            position = part.next
            held += part.text.encode()
            done = position >= end or not moved
            if len(held) >= PART_MAX // 2 or done:
                for text in cut(held):
                    published = self._put(text, published)
                held = b""
                published = Published(
                    published.begins,
                    position,
                    part.log.rotated,
                    published.parts,
                    published.container,
                    published.prefix,
                )
                self._note(published)
            if done:
                break
        self._put_metafile(log)

    def _read(self, position: int | None, *, limit: int) -> messages.LogPart:
        return self._call.guest(
            self._instance, messages.ReadLog(name=self._name, position=position, limit=limit)
        )

    def _put(self, text: bytes, published: Published) -> Published:
        # By its time, which tells the order; one that an earlier publisher died over, in its place.
        part = self._interrupted or f"{self._prefix}log-{datetime.now(UTC).replace(tzinfo=None).isoformat()}"
        self._interrupted = None
        with self._call.write() as tx:
            self._check(
                tx.logs.begin_part(self._instance.id, self._account, self._name, self._claimant, part)
            )
        self._store(part, text, {"lines": str(text.count(b"\n") + (not text.endswith(b"\n")))}, "text/plain")
        return Published(
            published.begins,
            published.ends,
            published.rotated,
            published.parts + 1,
            published.container,
            published.prefix,
        )

    def _put_metafile(self, log: messages.Log) -> None:
        told = {
            "log_name": self._name,
            "log_type": type_of(self._name),
            "log_file": log.file.rpartition("/")[2],
            "log_size": log.ends - log.begins,
            "log_header_digest": log.digest,
        }
        self._store(self._metafile, json.dumps(told).encode(), {}, "application/json")

    def _store(self, name: str, text: bytes, metadata: dict[str, str], kind: str) -> None:
        expires_at = datetime.now(UTC) + timedelta(seconds=KEPT_S)
        put(
            self._objects,
            self._account,
            CONTAINER,
            name,
            [text],
            content_type=kind,
            metadata=metadata,
            expires_at=expires_at,
        )

    def _note(self, published: Published) -> None:
        with self._call.write() as tx:
            self._check(tx.logs.note(self._instance.id, self._account, self._name, self._claimant, published))

    def _delete(self, name: str) -> None:
        try:
            self._objects.delete(self._account, CONTAINER, name)
        except (ObjectNotFound, NotFound):
            return

    def _check(self, held: bool) -> None:
        if not held:
            raise Conflict(f"Another request publishes the log {self._name} now: try again.")
