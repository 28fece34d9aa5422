"""Instances in the metadata database."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from argosy.domain.configuration import NO_GROUP
from argosy.domain.errors import InstanceBusy, InstanceNotFound
from argosy.domain.instance import Fault, Instance
from argosy.domain.operations import DeleteInstance
from argosy.domain.status import Report, Service
from argosy.metadata.tables import configurations, instance_logs, instances

# Written once: putting a statement together costs more than SQLite takes to answer it.
# With each instance comes what the group it follows is called, and its newest revision.
_ROWS = sa.select(
    instances,
    configurations.c.name.label("configuration_name"),
    configurations.c.revision.label("configuration_newest"),
).select_from(instances.outerjoin(configurations, configurations.c.id == instances.c.configuration_id))
_ALIVE = _ROWS.where(instances.c.deleted_at.is_(None))
_ONE = _ALIVE.where(instances.c.id == sa.bindparam("instance_id"))
_PAGE = _ALIVE.where(instances.c.id > sa.bindparam("after_id")).order_by(instances.c.id)
_PAGE = _PAGE.limit(sa.bindparam("at_most"))
_OWN = instances.c.project_id == sa.bindparam("project_id")
_OWN_ONE, _OWN_PAGE = _ONE.where(_OWN), _PAGE.where(_OWN)
_COLUMNS = tuple(_ROWS.selected_columns.keys())


class Instances:
    """The instances of one project, or of all."""

    def __init__(self, connection: sa.Connection, project_id: str | None) -> None:
        self._connection = connection
        self._project_id = project_id

    def _ours(self) -> sa.ColumnElement[bool]:
        return sa.true() if self._project_id is None else instances.c.project_id == self._project_id

    def _mine(self) -> sa.ColumnElement[bool]:
        return sa.and_(self._ours(), instances.c.deleted_at.is_(None))

    def get(self, instance_id: str) -> Instance:
        """Raises InstanceNotFound, also for what is another project's or deleted."""
        row = self._execute(_ONE, _OWN_ONE, instance_id=instance_id).first()
        if row is None:
            raise InstanceNotFound(instance_id=instance_id)
        return _instance(row)

    def find(self, instance_id: str) -> Instance | None:
        """None when it is deleted, or never was."""
        row = self._execute(_ONE, _OWN_ONE, instance_id=instance_id).first()
        return None if row is None else _instance(row)

    def page(
        self, limit: int, after_id: str | None = None, tags: Mapping[str, str | None] | None = None
    ) -> tuple[list[Instance], bool]:
        """Up to `limit` instances whose id follows `after_id`, by id, and whether there are more.

        `tags` chooses those that have all of them, of a None with any value.
        """
        if tags:
            query = _ROWS.where(self._mine(), instances.c.id > (after_id or ""), *_tagged(tags))
            found = self._connection.execute(query.order_by(instances.c.id).limit(limit + 1)).all()
            return [_instance(row) for row in found[:limit]], len(found) > limit
        rows = self._execute(_PAGE, _OWN_PAGE, after_id=after_id or "", at_most=limit + 1).all()
        return [_instance(row) for row in rows[:limit]], len(rows) > limit

    def get_or_deleted(self, instance_id: str) -> Instance:
        """Like `get`, and finds what is deleted too."""
        row = self._connection.execute(_ROWS.where(instances.c.id == instance_id, self._ours())).first()
        if row is None:
            raise InstanceNotFound(instance_id=instance_id)
        return _instance(row)

    def latest(self, limit: int, *, skip: int, deleted: bool | None = None) -> tuple[list[Instance], bool]:
        """Up to `limit` instances after the first `skip`, changed last first, and whether there are more.

        `deleted` None means those that are and those that are not.
        """
        query = _ROWS.where(self._ours())
        if deleted is not None:
            gone = instances.c.deleted_at.is_not(None)
            query = query.where(gone if deleted else sa.not_(gone))
        query = query.order_by(instances.c.updated_at.desc(), instances.c.id).offset(skip).limit(limit + 1)
        rows = self._connection.execute(query).all()
        return [_instance(row) for row in rows[:limit]], len(rows) > limit

    def page_of_deleted(
        self, limit: int, after_id: str | None = None, tags: Mapping[str, str | None] | None = None
    ) -> tuple[list[Instance], bool]:
        """Up to `limit` deleted instances, deleted last first, that follow `after_id`, and whether there are more.

        Raises InstanceNotFound when that is none of them.
        """
        gone, ids = instances.c.deleted_at, instances.c.id
        query = _ROWS.where(self._ours(), gone.is_not(None), *_tagged(tags or {}))
        if after_id is not None:
            last = self.get_or_deleted(after_id)
            if last.deleted_at is None:
                raise InstanceNotFound(instance_id=after_id)
            at = sa.bindparam("at", last.deleted_at, gone.type)
            query = query.where(sa.or_(gone < at, sa.and_(gone == at, ids < after_id)))
        rows = self._connection.execute(query.order_by(gone.desc(), ids.desc()).limit(limit + 1)).all()
        return [_instance(row) for row in rows[:limit]], len(rows) > limit

    def purge(self, before: datetime, at_most: int) -> int:
        """Forget up to so many instances that were deleted earlier; how many there were."""
        old = sa.select(instances.c.id).where(instances.c.deleted_at < before).limit(at_most)
        self._connection.execute(sa.delete(instance_logs).where(instance_logs.c.instance_id.in_(old)))
        return self._connection.execute(sa.delete(instances).where(instances.c.id.in_(old))).rowcount

    def all(self) -> list[Instance]:
        return [_instance(row) for row in self._connection.execute(_ROWS.where(self._mine()))]

    def booted(self, *, but_held_by: Collection[str] = ()) -> list[str]:
        """Ids of those that have a server, without those that an operation of these kinds holds."""
        kind = instances.c.operation_kind
        others = sa.or_(kind.is_(None), kind.not_in(but_held_by))
        query = sa.select(instances.c.id).where(self._mine(), instances.c.address.is_not(None), others)
        return list(self._connection.execute(query).scalars())

    def filled(self, part: float) -> list[Instance]:
        """Free ones that may grow by themselves, whose volume is about so full, from 0 to 1, or fuller."""
        own = instances.c
        size = sa.func.coalesce(
            sa.func.nullif(own.volume_size_bytes, 0), sa.cast(own.volume_gb, sa.BigInteger) * 2**30
        )
        free = sa.and_(own.operation_id.is_(None), sa.not_(own.broken), own.autogrow_limit_gb.is_not(None))
        query = _ROWS.where(self._mine(), free, own.volume_used_bytes >= sa.cast(size, sa.Float) * part)
        return [_instance(row) for row in self._connection.execute(query)]

    def of_older_agents(self, release: int) -> list[Instance]:
        """Free ones whose agent has reported, and is of an older release than this."""
        own = instances.c
        free = sa.and_(own.operation_id.is_(None), sa.not_(own.broken))
        reported = sa.and_(own.service.is_not(None), own.reported_at.is_not(None))
        query = _ROWS.where(self._mine(), free, reported, own.agent_release < release)
        return [_instance(row) for row in self._connection.execute(query)]

    def add(self, instance: Instance) -> None:
        """A new instance, held from its first moment by the operation that builds it."""
        self._connection.execute(
            sa.insert(instances).values(
                id=instance.id,
                project_id=instance.project_id,
                name=instance.name,
                datastore=instance.datastore,
                version=instance.version,
                flavor_id=instance.flavor_id,
                volume_gb=instance.volume_gb,
                access=instance.access,
                platform=instance.platform,
                created_at=instance.created_at,
                updated_at=instance.updated_at,
                broken=False,
                restart_required=False,
                root_enabled=False,
                configuration_id=instance.configuration_id,
                protected=instance.protected,
                tags=instance.tags,
                autogrow_limit_gb=instance.autogrow_limit_gb,
                require_tls=instance.require_tls,
                placement=instance.placement,
            )
        )

    def hold(self, instance_id: str, operation_id: str, kind: str) -> None:
        """Have an operation that is about something else hold an instance it has just made."""
        self._set(instance_id, operation_id=operation_id, operation_kind=kind)

    def forget(self, instance_id: str) -> None:
        """As if it never was; one that is not known is no error."""
        mine = sa.and_(instances.c.id == instance_id, self._mine())
        self._connection.execute(sa.delete(instances).where(mine))

    def rename(self, instance_id: str, name: str) -> None:
        self._set(instance_id, name=name, updated_at=datetime.now(UTC))

    def set_version(self, instance_id: str, datastore: str, version: str) -> None:
        """It runs another version from now on."""
        self._set(instance_id, datastore=datastore, version=version, updated_at=datetime.now(UTC))

    def protect(self, instance_id: str, *, protected: bool) -> None:
        """Raises InstanceBusy when it is to be protected and is being deleted: of both at once, one wins."""
        free: sa.ColumnElement[bool] = sa.true()
        if protected:
            kind = instances.c.operation_kind
            free = sa.or_(kind.is_(None), kind != DeleteInstance.kind)
        changed = sa.update(instances).where(instances.c.id == instance_id, self._mine(), free)
        values = {"protected": protected, "updated_at": datetime.now(UTC)}
        if self._connection.execute(changed.values(**values)).rowcount != 1:
            self.get(instance_id)
            raise InstanceBusy(instance_id=instance_id, status="SHUTDOWN", way_out="it is being deleted.")

    def change_tags(
        self, instance_id: str, change: Callable[[dict[str, str]], dict[str, str]]
    ) -> dict[str, str]:
        """Give an instance the tags that `change` makes of those it has; of two at once none is lost."""
        query = (
            sa.select(instances.c.tags).where(instances.c.id == instance_id, self._mine()).with_for_update()
        )
        had = self._connection.execute(query).scalar()
        if had is None:
            raise InstanceNotFound(instance_id=instance_id)
        tags = change(dict(had))
        self._set(instance_id, tags=tags, updated_at=datetime.now(UTC))
        return tags

    def following(
        self, group_id: str, limit: int, after_id: str | None = None
    ) -> tuple[list[Instance], bool]:
        """Up to `limit` instances that follow a group, of those whose id follows `after_id`, and whether there are more."""
        query = _ROWS.where(
            instances.c.configuration_id == group_id, self._mine(), instances.c.id > (after_id or "")
        )
        rows = self._connection.execute(query.order_by(instances.c.id).limit(limit + 1)).all()
        return [_instance(row) for row in rows[:limit]], len(rows) > limit

    def followers(self, group_id: str) -> int:
        """How many instances follow a group, whoever's they are."""
        query = sa.select(sa.func.count()).select_from(instances)
        alive = instances.c.deleted_at.is_(None)
        return int(
            self._connection.execute(
                query.where(instances.c.configuration_id == group_id, alive)
            ).scalar_one()
        )

    def behind(self) -> list[Instance]:
        """Free instances that do not run with the newest revision of their group and did not refuse it.

        One that follows no group any more is behind until its group's values are taken from it.
        """
        own = instances.c
        revised = sa.and_(
            own.configuration_id.is_not(None),
            configurations.c.revision != sa.func.coalesce(own.configuration_revision, NO_GROUP),
            configurations.c.revision != sa.func.coalesce(own.configuration_refused, NO_GROUP),
        )
        detached = sa.and_(
            own.configuration_id.is_(None),
            own.configuration_revision.is_not(None),
            own.configuration_refused.is_distinct_from(NO_GROUP),
        )
        free = sa.and_(own.operation_id.is_(None), own.address.is_not(None), sa.not_(own.broken))
        query = _ROWS.where(self._mine(), free, sa.or_(revised, detached)).order_by(own.id)
        return [_instance(row) for row in self._connection.execute(query)]

    def follow(self, instance_id: str, group_id: str | None) -> bool:
        """Have an instance follow a group, or none; either is still to be applied. False when it follows one already."""
        own = instances.c
        values: dict[str, Any] = {"configuration_error": None, "configuration_refused": None}
        free = sa.true() if group_id is None else own.configuration_id.is_(None)
        values["configuration_revision"] = (
            sa.func.coalesce(own.configuration_revision, NO_GROUP) if group_id is None else None
        )
        result = self._connection.execute(
            sa.update(instances)
            .where(own.id == instance_id, self._mine(), free)
            .values(configuration_id=group_id, updated_at=datetime.now(UTC), **values)
        )
        return result.rowcount == 1

    def applied(self, instance_id: str, group_id: str | None, revision: int) -> bool:
        """Write down that a revision of a group was applied; False when the instance follows another one by now."""
        same = instances.c.configuration_id.is_not_distinct_from(group_id)
        result = self._connection.execute(
            sa.update(instances)
            .where(instances.c.id == instance_id, self._mine(), same)
            .values(
                configuration_revision=None if group_id is None else revision,
                configuration_error=None,
                configuration_refused=None,
            )
        )
        return result.rowcount == 1

    def not_applied(
        self, instance_id: str, group_id: str | None, revision: int, reason: str, *, refused: bool
    ) -> None:
        """Write down why a revision could not be applied; one that was `refused` is not tried again by itself."""
        same = instances.c.configuration_id.is_not_distinct_from(group_id)
        self._connection.execute(
            sa.update(instances)
            .where(instances.c.id == instance_id, self._mine(), same)
            .values(configuration_error=reason, configuration_refused=revision if refused else None)
        )

    def set_address(self, instance_id: str, address: str) -> None:
        self._set(instance_id, address=address)

    def set_volume_gb(self, instance_id: str, size_gb: int) -> None:
        self._set(instance_id, volume_gb=size_gb)

    def set_flavor(self, instance_id: str, flavor_id: str) -> None:
        self._set(instance_id, flavor_id=flavor_id)

    def set_autogrow_limit(self, instance_id: str, limit_gb: int | None) -> None:
        self._set(instance_id, autogrow_limit_gb=limit_gb, updated_at=datetime.now(UTC))

    def set_platform(self, instance_id: str, facts: dict[str, Any]) -> None:
        """What the platform and the guest tell of it; facts of other names stay."""
        query = sa.select(instances.c.platform).where(instances.c.id == instance_id, self._mine())
        known = self._connection.execute(query.with_for_update()).scalar()
        self._set(instance_id, platform={**(known or {}), **facts})

    def set_access(self, instance_id: str, access: dict[str, Any], *, require_tls: bool) -> None:
        self._set(instance_id, access=access, require_tls=require_tls, updated_at=datetime.now(UTC))

    def enable_root(self, instance_id: str, *, by: str) -> None:
        """Remember that root is enabled, and who did it last."""
        self._set(instance_id, root_enabled=True, root_enabled_at=datetime.now(UTC), root_enabled_by=by)

    def disable_root(self, instance_id: str) -> None:
        self._set(instance_id, root_enabled=False)

    def forget_report(self, instance_id: str) -> None:
        """Take the guest's last word back: its service is unknown until it speaks again. Clears a failure too."""
        self._set(instance_id, service=Service.UNKNOWN, broken=False, updated_at=datetime.now(UTC))

    def expect_report(self, instance_id: str, number: int) -> None:
        """The guest booted again after it said what it last did: until it speaks, its service is starting."""
        older = sa.and_(instances.c.id == instance_id, instances.c.report_number < number)
        values = {"service": Service.STARTING.value, "report_number": number}
        self._connection.execute(sa.update(instances).where(older).values(**values))

    def report(self, instance_id: str, report: Report) -> bool:
        """Write down what a guest says, unless something newer is known; False when it was dropped."""
        newer = sa.or_(instances.c.report_number.is_(None), instances.c.report_number < report.number)
        result = self._connection.execute(
            sa.update(instances)
            .where(instances.c.id == instance_id, instances.c.deleted_at.is_(None), newer)
            .values(
                service=report.service.value,
                report_number=report.number,
                reported_at=report.at,
                volume_used_bytes=report.volume_used_bytes,
                volume_size_bytes=report.volume_size_bytes,
                server_version=report.server_version,
                restart_required=report.restart_required,
                agent_release=report.release,
                agent_code=report.agent,
                reported_configuration_error=report.configuration_error,
            )
        )
        return result.rowcount == 1

    def _execute(self, every: sa.Select[Any], own: sa.Select[Any], **values: Any) -> sa.CursorResult[Any]:
        if self._project_id is None:
            return self._connection.execute(every, values)
        return self._connection.execute(own, {**values, "project_id": self._project_id})

    def _set(self, instance_id: str, **values: Any) -> None:
        result = self._connection.execute(
            sa.update(instances).where(instances.c.id == instance_id, self._mine()).values(**values)
        )
        if result.rowcount != 1:
            raise InstanceNotFound(instance_id=instance_id)


def _tagged(tags: Mapping[str, str | None]) -> list[sa.ColumnElement[bool]]:
    stored = {key: instances.c.tags[key].as_string() for key in tags}
    return [
        stored[key].is_not(None) if value is None else stored[key] == value for key, value in tags.items()
    ]


def _instance(row: sa.Row[Any]) -> Instance:
    # By a dict: reading a row's columns as its attributes costs more than the query.
    stored = dict(zip(_COLUMNS, row, strict=True))
    report = None
    if stored["service"] is not None and stored["reported_at"] is not None:
        report = Report(
            service=Service(stored["service"]),
            number=stored["report_number"],
            at=stored["reported_at"],
            volume_used_bytes=stored["volume_used_bytes"],
            volume_size_bytes=stored["volume_size_bytes"],
            server_version=stored["server_version"],
            restart_required=stored["restart_required"],
            release=stored["agent_release"],
            agent=stored["agent_code"],
            configuration_error=stored["reported_configuration_error"],
        )
    fault = None
    if stored["fault_message"] is not None:
        fault = Fault(
            message=stored["fault_message"], created_at=stored["fault_at"], details=stored["fault_details"]
        )
    return Instance(
        id=stored["id"],
        project_id=stored["project_id"],
        name=stored["name"],
        datastore=stored["datastore"],
        version=stored["version"],
        flavor_id=stored["flavor_id"],
        volume_gb=stored["volume_gb"],
        created_at=stored["created_at"],
        updated_at=stored["updated_at"],
        access=stored["access"],
        address=stored["address"],
        platform=stored["platform"],
        operation_id=stored["operation_id"],
        operation_kind=stored["operation_kind"],
        broken=stored["broken"],
        fault=fault,
        report=report,
        root_enabled=stored["root_enabled"],
        root_enabled_at=stored["root_enabled_at"],
        root_enabled_by=stored["root_enabled_by"],
        configuration_id=stored["configuration_id"],
        configuration_revision=stored["configuration_revision"],
        configuration_error=stored["configuration_error"],
        configuration_refused=stored["configuration_refused"],
        configuration_name=stored["configuration_name"],
        configuration_newest=stored["configuration_newest"],
        protected=stored["protected"],
        tags=stored["tags"],
        autogrow_limit_gb=stored["autogrow_limit_gb"],
        require_tls=stored["require_tls"],
        placement=stored["placement"],
        deleted_at=stored["deleted_at"],
    )
