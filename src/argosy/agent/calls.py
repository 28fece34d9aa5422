"""The calls an agent answers: each method of `rpc.messages`, done on the engine."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from pydantic import ValidationError

import argosy
from argosy.agent import backups, dumps
from argosy.agent.diagnostics import figures_of, own_figures
from argosy.agent.jobs import Jobs, Say, failed
from argosy.agent.log_archiver import LogArchiver
from argosy.agent.logs import LogFiles
from argosy.agent.reporter import Reporter
from argosy.agent.supervisor import Supervisor, Wanted
from argosy.agent.transfer import Transfers
from argosy.agent.volume import out_of_room
from argosy.domain.databases import UserChange
from argosy.domain.errors import ArgosyError, Unsupported
from argosy.engines import choices, upgrades
from argosy.engines.backups import BackUps, Checks, KeepsAccounts
from argosy.engines.base import (
    Access,
    ChecksSize,
    Configurable,
    Databases,
    Engine,
    Guarded,
    RootAccess,
    RotatesPassword,
    Upgrades,
    Users,
)
from argosy.engines.staging import Software
from argosy.engines.upgrades import MayUpgrade
from argosy.rpc import messages
from argosy.rpc.messages import PATH, Call, ErrorReply, Message, Nothing
from argosy.rpc.peers import CONTROL_PLANE
from argosy.rpc.server import PEER

if TYPE_CHECKING:
    from argosy.agent.machine import Machine

log = logging.getLogger(__name__)

Capability = TypeVar("Capability")
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
ASGIApplication = Callable[[Scope, Receive, Send], Awaitable[None]]
Handler = tuple[type[Call[Any]], Callable[[Any], Message]]
CALLS_AT_ONCE = 8
NOTHING = Nothing()


class Calls:
    """What the control plane may ask of this guest."""

    def __init__(
        self,
        engine: Engine,
        supervisor: Supervisor,
        reporter: Reporter,
        logs: LogFiles,
        transfers: Transfers,
        archiver: LogArchiver,
        machine: Machine | None = None,
    ) -> None:
        """`machine` is None where the agent is a process beside the control plane."""
        self._machine = machine
        self._archiver = archiver
        self._logs = logs
        self._transfers = transfers
        self._engine = engine
        self._supervisor = supervisor
        self._reporter = reporter
        self._jobs = Jobs()
        self.methods: dict[str, Handler] = {
            call.method: (call, handler)
            for call, handler in (
                (messages.ListDatabases, self.list_databases),
                (messages.CreateDatabases, self.create_databases),
                (messages.DeleteDatabase, self.delete_database),
                (messages.ListUsers, self.list_users),
                (messages.GetUser, self.get_user),
                (messages.CreateUsers, self.create_users),
                (messages.UpdateUser, self.update_user),
                (messages.ChangePasswords, self.change_passwords),
                (messages.DeleteUser, self.delete_user),
                (messages.GrantAccess, self.grant_access),
                (messages.RevokeAccess, self.revoke_access),
                (messages.EnableRoot, self.enable_root),
                (messages.DisableRoot, self.disable_root),
                (messages.Prepare, self.prepare),
                (messages.Restart, self.restart),
                (messages.Stop, self.stop),
                (messages.Start, self.start),
                (messages.CheckSize, self.check_size),
                (messages.Resize, self.resize),
                (messages.ApplyParameters, self.apply_parameters),
                (messages.RehearseUpgrade, self.rehearse_upgrade),
                (messages.PrepareUpgrade, self.prepare_upgrade),
                (messages.AbandonUpgrade, self.abandon_upgrade),
                (messages.FinishUpgrade, self.finish_upgrade),
                (messages.UpdateAccess, self.update_access),
                (messages.TellGuard, self.tell_guard),
                (messages.RotatePassword, self.rotate_password),
                (messages.Await, self.wait_for_job),
                (messages.BackUp, self.back_up),
                (messages.Restore, self.restore),
                (messages.DumpAccounts, self.dump_accounts),
                (messages.Check, self.check),
                (messages.ArchiveLog, self.archive_log),
                (messages.ListEffectiveParameters, self.list_effective_parameters),
                (messages.ShowDefaultSettings, self.show_default_settings),
                (messages.ListLogs, self.list_logs),
                (messages.ReadLog, self.read_log),
                (messages.SwitchLog, self.switch_log),
                (messages.Ping, self.ping),
                (messages.Look, self.look),
                (messages.Diagnose, self.diagnose),
                (messages.TellHardware, self.tell_hardware),
                (messages.Renew, self.renew),
                (messages.GrowVolume, self.grow_volume),
            )
        }

    @property
    def engine(self) -> Engine:
        return self._engine

    def list_databases(self, _call: messages.ListDatabases) -> messages.DatabaseList:
        listed = self._capable(Databases).list_databases()
        return messages.DatabaseList(
            databases=tuple(
                messages.Database(name=one.name, character_set=one.character_set, collate=one.collate)
                for one in listed
            )
        )

    def create_databases(self, call: messages.CreateDatabases) -> Nothing:
        self._capable(Databases).create_databases([one.to_domain() for one in call.databases])
        return NOTHING

    def delete_database(self, call: messages.DeleteDatabase) -> Nothing:
        self._capable(Databases).delete_database(call.name)
        return NOTHING

    def list_users(self, _call: messages.ListUsers) -> messages.UserList:
        return messages.UserList(
            users=tuple(messages.User.of(user) for user in self._capable(Users).list_users())
        )

    def get_user(self, call: messages.GetUser) -> messages.User:
        return messages.User.of(self._capable(Users).get_user(call.user.to_domain()))

    def create_users(self, call: messages.CreateUsers) -> Nothing:
        self._capable(Users).create_users([user.to_domain() for user in call.users])
        return NOTHING

    def update_user(self, call: messages.UpdateUser) -> Nothing:
        change = UserChange(name=call.name, host=call.host, password=call.password)
        self._capable(Users).update_user(call.user.to_domain(), change)
        return NOTHING

    def change_passwords(self, call: messages.ChangePasswords) -> Nothing:
        engine = self._capable(Users)
        for change in call.changes:
            engine.get_user(change.user.to_domain())
        for change in call.changes:
            engine.update_user(change.user.to_domain(), UserChange(password=change.password))
        return NOTHING

    def delete_user(self, call: messages.DeleteUser) -> Nothing:
        self._capable(Users).delete_user(call.user.to_domain())
        return NOTHING

    def grant_access(self, call: messages.GrantAccess) -> Nothing:
        self._capable(Access).grant_access(call.user.to_domain(), call.databases)
        return NOTHING

    def revoke_access(self, call: messages.RevokeAccess) -> Nothing:
        self._capable(Access).revoke_access(call.user.to_domain(), call.database)
        return NOTHING

    def enable_root(self, call: messages.EnableRoot) -> messages.RootName:
        engine = self._capable(RootAccess)
        engine.enable_root(call.password)
        return messages.RootName(name=engine.root_name)

    def disable_root(self, _call: messages.DisableRoot) -> Nothing:
        self._capable(RootAccess).disable_root()
        return NOTHING

    def prepare(self, call: messages.Prepare) -> messages.JobState:
        def work(say: Say) -> None:
            say("making the data directory")
            self._engine.initialise()
            self._choose(call)
            say("starting the database server")
            self._supervisor.start()
            if call.databases or call.users:
                say("making databases and users")
                self._make(call)

        return self._run(call, work)

    def restart(self, call: messages.Restart) -> messages.JobState:
        def work(say: Say) -> None:
            say("restarting the database server")
            self._supervisor.restart()

        return self._run(call, work)

    def stop(self, call: messages.Stop) -> messages.JobState:
        def work(say: Say) -> None:
            say("stopping the database server")
            self._supervisor.stop(pause=call.pause)

        return self._run(call, work)

    def start(self, call: messages.Start) -> messages.JobState:
        def work(say: Say) -> None:
            say("starting the database server")
            self._supervisor.start()

        return self._run(call, work)

    def apply_parameters(self, call: messages.ApplyParameters) -> messages.JobState:
        def work(say: Say) -> None:
            say("applying parameters")
            self._capable(Configurable).apply_parameters(call.values)

        return self._run(call, work)

    def rehearse_upgrade(self, call: messages.RehearseUpgrade) -> messages.JobState:
        def work(say: Say) -> str:
            engine, to = self._upgradable(), _software(call.software)
            say("looking for what stands in the way")
            upgrades.check(engine, to, rehearsal=True)
            if not upgrades.needs_conversion(engine.host, to):
                return "It is a newer release of the same version: it runs on the data as it is, after a restart."
            return upgrades.rehearse(engine, to, say)

        return self._jobs.run(call.job_id, work, call.wait_s)

    def prepare_upgrade(self, call: messages.PrepareUpgrade) -> messages.JobState:
        def work(say: Say) -> None:
            engine, to = self._upgradable(), _software(call.software)
            say("looking for what stands in the way")
            with self._same_history_if_it_fails():
                upgrades.check(engine, to)
                if upgrades.needs_conversion(engine.host, to):
                    upgrades.remember(engine)
                    engine.prepare_to_stop()
                    say("stopping the database server")
                    with self._archiver.another_history(self._reporter.now):
                        self._supervisor.hand_over(lambda: upgrades.prepare(engine, to, say))

        return self._run(call, work)

    def abandon_upgrade(self, call: messages.AbandonUpgrade) -> messages.JobState:
        def work(_say: Say) -> None:
            self._supervisor.give_up(lambda: upgrades.abandon(self._engine.host))

        return self._jobs.run(call.job_id, work, call.wait_s)

    def finish_upgrade(self, call: messages.FinishUpgrade) -> messages.JobState:
        def work(say: Say) -> None:
            say("gathering statistics")
            self._upgradable().after_upgrade()

        return self._run(call, work)

    def check_size(self, call: messages.CheckSize) -> Nothing:
        if isinstance(self._engine, ChecksSize):
            self._engine.check_size(call.memory_mb)
        return NOTHING

    def resize(self, call: messages.Resize) -> messages.JobState:
        def work(say: Say) -> str:
            say("applying the settings of the new size")
            return self._take_size(say, restart=call.restart)

        return self._run(call, work)

    def _upgradable(self) -> MayUpgrade:
        self._capable(Upgrades)
        return cast("MayUpgrade", self._engine)

    def update_access(self, call: messages.UpdateAccess) -> messages.JobState:
        def work(say: Say) -> None:
            say("changing who may connect")
            engine = self._capable(Guarded)
            wanted = (call.allowed_cidrs, call.require_tls)
            known = choices.read(self._engine.host)
            if wanted == (call.former_cidrs, call.former_tls) == (known.allowed_cidrs, known.require_tls):
                return
            try:
                self._choose_access(call.allowed_cidrs, require_tls=call.require_tls)
                engine.guard()
            except ArgosyError:
                self._keep_access(call.former_cidrs, require_tls=call.former_tls)
                with suppress(ArgosyError):
                    engine.guard()
                raise

        return self._jobs.run(call.job_id, work, call.wait_s)

    def rotate_password(self, call: messages.RotatePassword) -> messages.JobState:
        def work(say: Say) -> None:
            say("giving the management account another password")
            self._capable(RotatesPassword).rotate_password()

        return self._jobs.run(call.job_id, work, call.wait_s)

    def tell_guard(self, _call: messages.TellGuard) -> messages.Guard:
        networks, tls = self._capable(Guarded).guarded()
        return messages.Guard(networks=networks, tls=tls)

    def wait_for_job(self, call: messages.Await) -> messages.JobState:
        return self._jobs.wait(call.job_id, call.wait_s)

    def back_up(self, call: messages.BackUp) -> messages.JobState:
        def work(say: Say) -> str:
            return backups.back_up(self._capable(BackUps), self._transfers, call, say)

        return self._jobs.run(call.job_id, work, call.wait_s)

    def restore(self, call: messages.Restore) -> messages.JobState:
        def work(say: Say) -> str:
            self._capable(BackUps)
            with self._same_history_if_it_fails():
                told = backups.restore(
                    self._engine,
                    self._supervisor,
                    self._transfers,
                    call,
                    lambda: self._choose(call),
                    lambda: self._archiver.another_history(self._reporter.now),
                    say,
                )
            if call.databases or call.users:
                say("making databases and users")
                self._make(call)
            return told

        return self._run(call, work)

    def dump_accounts(self, _call: messages.DumpAccounts) -> messages.Accounts:
        return messages.Accounts(dump=self._capable(KeepsAccounts).dump_accounts())

    def check(self, call: messages.Check) -> messages.JobState:
        def work(say: Say) -> str:
            return backups.check(self._capable(Checks), call, say)

        return self._jobs.run(call.job_id, work, call.wait_s)

    def archive_log(self, call: messages.ArchiveLog) -> messages.JobState:
        def work(say: Say) -> str:
            if call.archive is None:
                say("archiving the last of the log")
                return self._archiver.switch_off(self._reporter.now) or ""
            say("archiving the log")
            self._archiver.switch_on(call.archive, call.every_s)
            return ""

        return self._jobs.run(call.job_id, work, call.wait_s)

    def _take_size(self, say: Say, *, restart: bool) -> str:
        """Returns how it went."""
        if self._supervisor.wanted is not Wanted.RUNNING:
            return "the database server is stopped, and takes its settings when it starts"
        if self._engine.server.pid is None:
            say("starting the database server at the new size")
            self._supervisor.start()
            return "the database server, which did not run, was started"
        engine = self._capable(Configurable)
        engine.apply_settings()
        waiting = engine.pending_resize()
        if not waiting and not restart:
            return "without a restart"
        say("restarting the database server at the new size")
        away_ms = self._supervisor.restart() * 1000
        reason = f"for {', '.join(waiting)}" if waiting else "to have it give back memory"
        return f"with one restart, {reason}; the database server was away for {away_ms:.0f} ms"

    def list_effective_parameters(
        self, _call: messages.ListEffectiveParameters
    ) -> messages.EffectiveParameters:
        return messages.EffectiveParameters(
            parameters=tuple(
                messages.EffectiveParameter(
                    name=one.name, value=one.value, source=one.source, pending=one.pending
                )
                for one in self._capable(Configurable).effective_parameters()
            )
        )

    def show_default_settings(self, _call: messages.ShowDefaultSettings) -> messages.DefaultSettings:
        return messages.DefaultSettings(settings=self._capable(Configurable).default_settings())

    def _choose(self, call: messages.Prepare) -> None:
        """What the owner chose, before the server's first start."""
        if call.parameters:
            self._choose_parameters(call.parameters)
        if call.allowed_cidrs or call.require_tls:
            self._choose_access(call.allowed_cidrs, require_tls=call.require_tls)

    def _choose_parameters(self, values: dict[str, str]) -> None:
        """Before the first start."""
        self._capable(Configurable)
        choices.change(self._engine.host, parameters=values)

    def _choose_access(self, allowed_cidrs: tuple[str, ...], *, require_tls: bool) -> None:
        """Raises Unsupported, and then nothing has changed."""
        self._capable(Guarded).check_guard(allowed_cidrs, require_tls=require_tls)
        self._keep_access(allowed_cidrs, require_tls=require_tls)

    def _keep_access(self, allowed_cidrs: tuple[str, ...], *, require_tls: bool) -> None:
        choices.change(self._engine.host, allowed_cidrs=allowed_cidrs, require_tls=require_tls)

    def list_logs(self, _call: messages.ListLogs) -> messages.LogList:
        return messages.LogList(logs=tuple(self._logs.every()))

    def read_log(self, call: messages.ReadLog) -> messages.LogPart:
        return self._logs.read(call.name, call.position, call.last, call.limit)

    def switch_log(self, call: messages.SwitchLog) -> Nothing:
        self._logs.switch(call.name, on=call.on)
        self._reporter.soon()
        return NOTHING

    def ping(self, _call: messages.Ping) -> Nothing:
        return NOTHING

    def look(self, _call: messages.Look) -> Nothing:
        self._supervisor.look()
        self._report()
        return NOTHING

    def diagnose(self, _call: messages.Diagnose) -> messages.Diagnosis:
        return messages.Diagnosis(
            agent_version=argosy.__version__,
            agent=own_figures(),
            server=figures_of(self._engine.server.pid),
        )

    def tell_hardware(self, _call: messages.TellHardware) -> messages.Hardware:
        return messages.Hardware(memory_mb=self._engine.host.memory_mb, vcpus=self._engine.host.vcpus)

    def renew(self, call: messages.Renew) -> messages.JobState:
        return renew(self._jobs, self._of_machine(), call)

    def grow_volume(self, call: messages.GrowVolume) -> messages.JobState:
        machine = self._of_machine()

        def work(say: Say) -> None:
            machine.grow_volume(call, say)

        return self._run(call, work)

    def _of_machine(self) -> Machine:
        if self._machine is None:
            raise Unsupported(
                "This guest is a process of its platform's machine, which looks after it itself."
            )
        return self._machine

    def _run(self, call: messages.Job, work: Callable[[Say], str | None]) -> messages.JobState:
        """A job that changes how the server is. Whoever hears of its end, a bad one too, finds it told as it is then."""

        def work_and_report(say: Say) -> str | None:
            try:
                return work(say)
            finally:
                self._report()

        return self._jobs.run(call.job_id, work_and_report, call.wait_s)

    def _report(self) -> None:
        if not self._reporter.now():
            # As soon as the conductor is back, and not a heartbeat later.
            self._reporter.soon()

    @contextmanager
    def _same_history_if_it_fails(self) -> Iterator[None]:
        """An earlier life may have died over the exchange of the data, and left the archive waiting for its end."""
        try:
            yield
        except BaseException:
            self._archiver.go_on()
            raise

    def _make(self, call: messages.Prepare) -> None:
        """What an earlier, interrupted preparation made already is left alone."""
        if call.databases:
            engine = self._capable(Databases)
            there = {one.name for one in engine.list_databases()}
            engine.create_databases([one.to_domain() for one in call.databases if one.name not in there])
        if call.users:
            users = self._capable(Users)
            known = {user.id for user in users.list_users()}
            wanted = [user.to_domain() for user in call.users]
            users.create_users([user for user in wanted if user.id not in known])

    def _capable(self, capability: type[Capability]) -> Capability:
        if not isinstance(self._engine, capability):
            raise Unsupported(f"This datastore has no {capability.__name__.lower()}.")
        return self._engine


def _software(told: messages.Software) -> Software:
    return Software(told.version, Path(told.bundle), Path(told.template))


def renew(jobs: Jobs, machine: Machine, call: messages.Renew) -> messages.JobState:
    """Done in the life that begins with this job, and never in the one that it ends."""
    try:
        known = machine.renewed(call)
    except ArgosyError as error:
        return failed(error)
    if known is not None:
        return known
    state = jobs.run(call.job_id, lambda say: machine.renew(call, say), call.wait_s)
    if state.phase is messages.Phase.FAILED:
        return state
    return messages.JobState(phase=messages.Phase.RUNNING, doing=state.doing or "living anew")


def application(methods: Mapping[str, Handler], streams: dumps.DumpRoutes | None) -> ASGIApplication:
    """The ASGI application: POST /rpc/v1/<method>, from the control plane's certificate alone.

    One route needs no framework, which every agent would pay for.
    """
    threads = ThreadPoolExecutor(CALLS_AT_ONCE, thread_name_prefix="call")

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if streams is not None and scope["path"] in dumps.PATHS and _is_ours(scope):
            await streams.answer(scope, receive, send)
            return
        status, body = await _answer(scope, receive)
        kind = b"application/json" if body[:1] == b"{" else b"text/plain"
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", kind)]})
        await send({"type": "http.response.body", "body": body})

    async def _answer(scope: Scope, receive: Receive) -> tuple[int, bytes]:
        if not _is_ours(scope):
            return 403, b"this guest takes calls from its control plane only"
        method = scope["path"].removeprefix(PATH)
        if scope["method"] != "POST" or method not in methods:
            return 404, b"this agent has no such method"
        kind, handler = methods[method]
        try:
            call = kind.model_validate_json(await _body(receive))
        except ValidationError:
            # The error's own text would repeat what was sent, passwords too.
            return 422, b"the call does not have the fields it needs"
        try:
            reply = await asyncio.get_running_loop().run_in_executor(threads, handler, call)
        except ArgosyError as error:
            return _refusal(error)
        except Exception as error:
            log.exception("call failed by surprise", extra={"method": method})
            full = out_of_room(error)
            if full is not None:
                return _refusal(full)
            return 500, b"the agent failed by surprise: see its log"
        return 200, reply.model_dump_json().encode()

    return answer


def _is_ours(scope: Scope) -> bool:
    return bool(scope.get("extensions", {}).get(PEER) == CONTROL_PLANE)


def _refusal(error: ArgosyError) -> tuple[int, bytes]:
    refusal = ErrorReply(kind=error.kind.value, code=error.code, sentence=error.sentence)
    return 400, refusal.model_dump_json().encode()


async def _body(receive: Receive) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body
