"""Servers: one guest agent process for each instance, which outlives the control plane that started it.

The agent starts the database server in a session of its own, so either may die without the other. Both
carry the instance's id in their environment and, as root, live in its control group: by these they are
found again whatever was killed in between.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from argosy import marks
from argosy.domain.datastore import Version
from argosy.domain.errors import ArgosyError, PlatformError
from argosy.domain.guest import GuestConfig
from argosy.domain.instance import Flavor
from argosy.platforms.base import Address, Addresses, Placement, Server, ServerRequest, Software
from argosy.platforms.local.accounts import Account, account_of
from argosy.platforms.local.addresses import AddressPool, bound
from argosy.platforms.local.agents import Agents
from argosy.platforms.local.cgroups import Groups
from argosy.platforms.local.home import Home, Place, make_directory, write_file
from argosy.platforms.local.images import LocalImages
from argosy.platforms.local.volumes import LocalVolumes

_log = logging.getLogger(__name__)


class LocalServers:
    """Servers of one home. Methods may be called from any thread, and from several processes."""

    def __init__(
        self,
        home: Home,
        addresses: AddressPool,
        volumes: LocalVolumes,
        images: LocalImages,
        groups: Groups | str,
        agents: Agents,
    ) -> None:
        """`groups` may say instead why there are none."""
        self._home = home
        self._addresses = addresses
        self._volumes = volumes
        self._images = images
        self._groups = groups
        self._agents = agents

    def reserve(self, placement: Placement) -> Addresses:
        place = self._home.place(placement.instance_id)
        with place.held():
            address = self._addresses.reserve(place)
        return Addresses(agent=address, database=address, shown=(Address(address, "local"),))

    def create(self, request: ServerRequest) -> Server:
        place = self._home.place(request.instance_id)
        with place.held() as lock:
            address = self._addresses.reserve(place)
            # Nothing is started before guest.json is written, so without it there is nothing to look for.
            if not place.guest.exists():
                self._check_port(address, request.port)
            elif self._agents.find(place) is not None:
                return Server(request.instance_id, address, running=True)
            self._write(place, address, request)
            self._start(place, lock)
        return Server(request.instance_id, address, running=True)

    def replace(self, request: ServerRequest) -> Server:
        place = self._home.place(request.instance_id)
        with place.held() as lock:
            address = place.reserved()
            if address is None:
                # As for an operation that was given up for the instance's deletion and is in its last step.
                raise PlatformError(f"Instance {request.instance_id} has no server on this machine.")
            agent = self._agents.find(place)
            if agent is not None:
                self._end(lambda: {agent.pid} if agent.alive else set(), timeout_s=5)
            self._write(place, address, request)
            self._start(place, lock, keep_limits=True)
        return Server(request.instance_id, address, running=True)

    def settled(self, instance_id: str) -> bool:  # noqa: ARG002 - all is done when a call returns
        return True

    def reboot(self, instance_id: str) -> None:
        raise _no_machine(instance_id)

    def rebuild(self, request: ServerRequest) -> None:
        self.replace(request)

    def resize(self, instance_id: str, flavor: Flavor) -> None:  # noqa: ARG002 - see `limit`
        raise _no_machine(instance_id)

    def confirm(self, instance_id: str) -> None:
        raise _no_machine(instance_id)

    def revert(self, instance_id: str) -> None:
        raise _no_machine(instance_id)

    def allow(self, placement: Placement) -> Addresses:
        """Who may come is the engine's own affair here."""
        return self.reserve(placement)

    def limit(self, instance_id: str) -> None:
        place = self._home.place(instance_id)
        with place.held():
            if isinstance(self._groups, Groups) and place.guest.exists():
                config = GuestConfig.read(place.guest)
                self._groups.make(instance_id, memory_mb=config.memory_mb, vcpus=config.vcpus)

    def holds(self, instance_id: str, version: Version) -> bool:  # noqa: ARG002 - all see the same files here
        return True

    def offer(self, instance_id: str, version: Version) -> Software:  # noqa: ARG002 - all see the same files here
        return Software(
            version.series, str(self._images.bundle(version)), str(self._images.template(version))
        )

    def find(self, instance_id: str) -> Server | None:
        place = self._home.place(instance_id)
        address = place.reserved()
        if address is None or not place.guest.exists():
            return None
        return Server(instance_id, address, running=self._agents.find(place) is not None)

    def limits(self, instance_id: str) -> dict[str, str]:
        place = self._home.place(instance_id)
        if isinstance(self._groups, str):
            held = dict.fromkeys(("memory", "cpu"), f"not enforced: {self._groups}")
        else:
            held = self._groups.limits(instance_id)
        return {**held, "volume": self._volumes.limit(place)}

    def stop(self, instance_id: str, timeout_s: float = 20) -> None:
        """End the agent, then whatever of the instance still runs; its volume and its address stay.

        A database server should have been stopped through its agent before: here it is asked to end by
        SIGTERM, and killed when it has not in time.
        """
        place = self._home.place(instance_id)
        if not place.root.exists():
            return
        with place.held():
            agent = self._agents.find(place)
            if agent is not None:
                self._end(lambda: {agent.pid} if agent.alive else set(), timeout_s=5)
            self._end(lambda: self._pids(instance_id), timeout_s)
            self._remove_groups(instance_id)
            place.pid_file.unlink(missing_ok=True)

    def delete(self, instance_id: str) -> None:
        place = self._home.place(instance_id)
        with place.held():
            self._kill(place)
            self._remove_groups(instance_id)
            self._volumes.detach_held(place)
            # From here on its account may become another instance's; the volume, if it stays, is no part of that.
            place.root.chmod(0o700)
            for entry in place.root.iterdir():
                if entry not in (place.image, place.size, place.volume, place.address):
                    _remove(entry)
            # The link last but the address: it tells whose it is.
            if place.run.is_symlink():
                place.run.unlink()
            place.address.unlink(missing_ok=True)

    def heal(self, instance_ids: Sequence[str]) -> list[str]:
        """Start agents that are not running, volume first. One that fails does not keep the others waiting.

        Raises PlatformError, once all were tried, naming those that could not be started.
        """
        healed, failed = [], []
        for instance_id in instance_ids:
            place = self._home.place(instance_id)
            if not place.guest.exists():
                continue
            try:
                with place.held() as lock:
                    if place.guest.exists() and self._agents.find(place) is None:
                        self._start(place, lock)
                        healed.append(instance_id)
            except (ArgosyError, OSError) as error:
                _log.warning("instance %s cannot be started again: %s", instance_id, error)
                failed.append(f"{instance_id}: {error}")
        if failed:
            raise PlatformError(f"These instances cannot be started again. {' '.join(failed)}")
        return healed

    def leftovers(self, instance_ids: Sequence[str]) -> list[str]:
        found = self._home.instance_ids() | self._volumes.mounted_ids() | self._running_ids()
        if isinstance(self._groups, Groups):
            found |= self._groups.instance_ids()
        return sorted(found - set(instance_ids))

    def _check_port(self, address: str, port: int) -> None:
        if bound(address, [port]) is not None:
            raise PlatformError(
                f"Port {port} of {address} is taken by another program, perhaps one that listens on every address: "
                "stop that, or have it listen on its own address."
            )

    def _write(self, place: Place, address: str, request: ServerRequest) -> None:
        """Lay out everything the agent is told; the configuration last, which says that all of it is there."""
        own = Account(os.geteuid(), os.getegid())
        account = account_of(address)
        shared = Account(own.uid, account.gid)
        tls = place.etc / "tls"
        make_directory(place.rpc, 0o700, own)
        make_directory(place.etc, 0o750, shared)
        make_directory(tls, 0o750, shared)
        make_directory(place.logs, 0o750, shared)
        make_directory(place.sockets, 0o700, account)
        with contextlib.suppress(FileExistsError):
            place.run.symlink_to(place.sockets)
        keys = request.credentials
        if keys is None:
            raise PlatformError(f"Instance {request.instance_id} was given no identity.")
        rpc = self._write_pem(place.rpc, "guest", keys.rpc_ca, keys.rpc_certificate, keys.rpc_key, own)
        server = self._write_pem(tls, "server", keys.tls_ca, keys.tls_certificate, keys.tls_key, account)
        GuestConfig(
            instance_id=request.instance_id,
            engine=request.engine,
            version=request.version.series,
            address=address,
            port=request.port,
            memory_mb=request.flavor.memory_mb,
            vcpus=request.flavor.vcpus,
            uid=account.uid,
            gid=account.gid,
            bundle=str(self._images.bundle(request.version)),
            template=str(self._images.template(request.version)),
            volume=str(place.volume),
            etc=str(place.etc),
            run=str(place.run),
            logs=str(place.logs),
            conductor_url=request.conductor_url,
            rpc_ca=rpc[0],
            rpc_certificate=rpc[1],
            rpc_key=rpc[2],
            tls_ca=server[0],
            tls_certificate=server[1],
            tls_key=server[2],
        ).write(place.guest)

    @staticmethod
    def _write_pem(
        directory: Path, name: str, ca: str, certificate: str, key: str, owner: Account
    ) -> tuple[str, str, str]:
        files = (directory / "ca.crt", directory / f"{name}.crt", directory / f"{name}.key")
        write_file(files[0], ca, 0o644, owner)
        write_file(files[1], certificate, 0o644, owner)
        write_file(files[2], key, 0o600, owner)
        return str(files[0]), str(files[1]), str(files[2])

    def _start(self, place: Place, lock: int, *, keep_limits: bool = False) -> None:
        """Start the agent of a held place, from its files."""
        config = GuestConfig.read(place.guest)
        self._volumes.attach_held(place)
        join: list[Path] = []
        if isinstance(self._groups, Groups):
            if keep_limits:
                join = self._groups.joins(place.instance_id)
            join = join or self._groups.make(
                place.instance_id, memory_mb=config.memory_mb, vcpus=config.vcpus
            )
        self._agents.start(place, lock, join)

    def _pids(self, instance_id: str) -> set[int]:
        """Every living process of the instance."""
        self._agents.reap()
        found = marks.with_descendants(marks.marked({marks.INSTANCE: instance_id}))
        if isinstance(self._groups, Groups):
            found |= self._groups.pids(instance_id)
        return found

    def _running_ids(self) -> set[str]:
        """Instances of this home that have a process: each is told of its run directory as HOME."""
        found = set()
        for pid in marks.everyone():
            environment = marks.environment(pid)
            if marks.INSTANCE in environment and Path(environment.get("HOME", "/")).parent == self._home.run:
                found.add(environment[marks.INSTANCE])
        return found

    def _kill(self, place: Place) -> None:
        """Kill all at once, the agent first: it would start its server again."""
        agent = self._agents.find(place)
        if agent is not None:
            _send(agent.pid, signal.SIGKILL)
        if isinstance(self._groups, Groups):
            self._groups.kill(place.instance_id)
        self._end(lambda: self._pids(place.instance_id), timeout_s=0)

    def _end(self, pids: Callable[[], set[int]], timeout_s: float) -> None:
        """Ask processes to end, kill those that have not in time, and wait until none is left."""
        began = time.monotonic()
        seen: set[marks.Process] = set()
        pause_s = 0.002
        while True:
            now = {
                marks.Process(pid, ticks) for pid in pids() if (ticks := marks.started_at(pid)) is not None
            }
            # Orphans of a process that died may lose what tells whose they are, so they are remembered.
            left = now | {process for process in seen if process.alive}
            if not left:
                return
            late = time.monotonic() - began - timeout_s
            if late > 30:
                raise PlatformError(
                    f"Processes {sorted(process.pid for process in left)} cannot be killed: look at what they wait for."
                )
            for process in left if late >= 0 else left - seen:
                _send(process.pid, signal.SIGKILL if late >= 0 else signal.SIGTERM)
            seen |= left
            time.sleep(pause_s)
            pause_s = min(pause_s * 1.5, 0.1)
            self._agents.reap()

    def _remove_groups(self, instance_id: str) -> None:
        if isinstance(self._groups, Groups):
            self._groups.remove(instance_id)


def _no_machine(instance_id: str) -> PlatformError:
    return PlatformError(
        f"Instance {instance_id} is a process of this machine, which is resized and booted by itself."
    )


def _send(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _remove(entry: Path) -> None:
    if entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry)
    else:
        entry.unlink(missing_ok=True)
