"""The agent's program on a machine: `python -m argosy.agent.machine`, started by machine_files/argosy-agent.

From power-on to serving it is one process: it learns what it is (first_boot.py), finds the data volume
(block_device.py), lays out what the database server needs, and serves as any agent does. With `--root` the machine is
only simulated: everything is below that directory, and a directory `dev/disk/by-id/virtio-…` in it stands in for the
volume's device.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from argosy import marks
from argosy.agent import block_device, renewal
from argosy.agent.__main__ import serve
from argosy.agent.conductor import Refused
from argosy.agent.first_boot import Guest
from argosy.agent.jobs import Say
from argosy.agent.layout import Layout
from argosy.agent.log import set_up
from argosy.agent.trouble import serve_trouble
from argosy.domain.errors import ArgosyError, EngineError, Failed, PlatformError
from argosy.domain.guest import GuestConfig, Told
from argosy.engines.host import Account
from argosy.rpc.messages import GrowVolume, JobState, Phase, Renew

log = logging.getLogger(__name__)

DATABASE_ACCOUNT = 970  # uid and gid of argosy-db in the image
UNIT = "argosy-database"
_SYSTEMD = Path("/run/systemd/system")  # sd_booted(3)
_ADDRESS_S = 120.0
_VOLUME_S = 60.0
_GROWN_S, _POLL_S = 300.0, 0.5
_ASK_AGAIN_S = 5.0


class Machine:
    """This machine, from inside."""

    def __init__(self, layout: Layout, drive: Path | None = None) -> None:
        self.layout = layout
        self.account = Account(DATABASE_ACCOUNT, DATABASE_ACCOUNT) if os.geteuid() == 0 else Account.own()
        self.guest = Guest(layout, self.account, drive)
        self.agent = renewal.running(layout)
        self._began_with = renewal.began_with(layout)
        self._ending = threading.Event()
        self._end: Callable[[], None] = self._ending.set
        self._device: Path | None = None
        self._told: Told | None = None
        self._is_current = False  # what this life goes by is what the conductor says

    def live(self) -> None:
        """Be this machine's agent until it is to end, or to live anew."""
        told = self._told = self.guest.learn()
        self._is_current = self.guest.heard
        _wait_until_there(told.rpc_address)
        try:
            config = self._make_ready(told, wait_s=_VOLUME_S)
        except ArgosyError as error:
            log.exception("this machine cannot run its database server")
            config = self._config(told, "", "")
            if not serve_trouble(config, error, self, is_well=lambda: self._is_ready(told)):
                return
            config = self._make_ready(told, wait_s=0)
        _wait_until_there(told.address, at_most_s=_ADDRESS_S)
        serve(config, self)

    # What serving agents ask of their machine

    def serves(self, end: Callable[[], None]) -> None:
        """This life has come to serving; `end` ends it."""
        self._end = end
        if self._ending.is_set():
            end()
        self.layout.starts.unlink(missing_ok=True)
        renewal.tidy(self.layout)
        if not self._is_current:
            threading.Thread(target=self._ask_again, name="ask-again", daemon=True).start()

    def renewed(self, call: Renew) -> JobState | None:
        """How that call went, in the life that began with it; None in others. Raises Failed when its code did not serve."""
        if self._began_with != call.job_id:
            return None
        if call.agent is not None and call.agent != self.agent:
            raise Failed(
                f"The agent's code {call.agent[:12]} never came to serve on this machine, which went back to "
                f"{self.agent[:12]}: see its log.",
                code="agent-does-not-serve",
            )
        if not self._is_current:
            return JobState(phase=Phase.RUNNING, doing="waiting for the conductor")
        return JobState(phase=Phase.SUCCEEDED)

    def renew(self, call: Renew, say: Say) -> None:
        """Make ready for another life, and begin it."""
        if call.agent is not None and call.agent != self.agent:
            say("fetching the agent's code")
            try:
                packed = self.guest.conductor().code()
            except OSError as error:
                raise Failed(
                    f"The agent's code cannot be fetched: {error}.", code="conductor-away"
                ) from error
            renewal.install(self.layout, packed, call.agent, say)
        renewal.remember(self.layout, call.job_id)
        say("living anew")
        log.info("living anew", extra={"job_id": call.job_id})
        self._end()

    def grow_volume(self, call: GrowVolume, say: Say) -> None:
        """Returns once the file system fills a device of that size; the cloud tells the kernel of it in its own time."""
        if self._device is None:
            return
        say("waiting for the larger volume")
        wanted = call.size_gb * 2**30
        deadline = time.monotonic() + _GROWN_S
        while block_device.size_of(self._device) < wanted:
            if time.monotonic() > deadline:
                there = block_device.size_of(self._device) / 2**30
                raise PlatformError(
                    f"The volume's device has {there:.1f} GB and not {call.size_gb}: try again later."
                )
            time.sleep(_POLL_S)
        say("growing the file system")
        block_device.grow(self._device, self.layout.volume)

    # What the database server needs

    def _make_ready(self, told: Told, *, wait_s: float) -> GuestConfig:
        """Raises PlatformError for what is wrong with the volume, EngineError when the image lacks the software."""
        software = _software(self.layout.image, told)
        self._mount(told, wait_s)
        self._lay_out()
        config = self._config(told, str(software["bundle"]), str(software["template"]))
        config.write(self.layout.config)
        return config

    def _is_ready(self, told: Told) -> bool:
        try:
            self._make_ready(told, wait_s=0)
        except ArgosyError:
            return False
        return True

    def _mount(self, told: Told, wait_s: float) -> None:
        """Raises PlatformError, with nothing changed, for a volume that is not there, or holds what is not ours."""
        point = self.layout.volume
        if not self.layout.simulated:
            if not told.volume:
                raise PlatformError(
                    "This machine was told of no data volume: databases are not kept on its root disk."
                )
            self._device = block_device.find(told.volume, timeout_s=wait_s)
            block_device.mount(self._device, point, told.instance_id, self.layout.guest / "formatting")
        elif told.volume:
            stand_in = self.layout.stand_in(told.volume)
            if not stand_in.is_dir():
                raise PlatformError(f"The data volume {told.volume} is not attached to this machine.")
            _link(point, stand_in)
        else:
            point.mkdir(mode=0o755, parents=True, exist_ok=True)

    def _lay_out(self) -> None:
        """The server's account may make directories beside its data, and not put others in the place of ours."""
        own, volume = Account.own(), self.layout.volume
        etc = volume / "etc"
        etc.mkdir(mode=0o750, exist_ok=True)
        for path, mode in ((volume, 0o1770), (etc, 0o750)):
            os.chown(path, own.uid, self.account.gid)
            path.chmod(mode)

    def _config(self, told: Told, bundle: str, template: str) -> GuestConfig:
        rpc_ca, rpc_certificate, rpc_key = map(str, self.guest.rpc_files)
        tls_ca, tls_certificate, tls_key = map(str, self.guest.tls_files)
        volume = self.layout.volume
        return GuestConfig(
            instance_id=told.instance_id,
            engine=told.engine,
            version=told.series,
            address=told.address,
            port=told.port,
            memory_mb=told.memory_mb,
            vcpus=told.vcpus,
            uid=self.account.uid,
            gid=self.account.gid,
            bundle=bundle,
            template=template,
            volume=str(volume),
            etc=str(volume / "etc"),
            run=str(self.layout.run / "db"),
            logs=str(volume / "logs"),
            conductor_url=self.guest.conductor_url,
            rpc_ca=rpc_ca,
            rpc_certificate=rpc_certificate,
            rpc_key=rpc_key,
            tls_ca=tls_ca,
            tls_certificate=tls_certificate,
            tls_key=tls_key,
            rpc_address=told.rpc_address,
            unit="" if self.layout.simulated or not _SYSTEMD.is_dir() else UNIT,
        )

    def _ask_again(self) -> None:
        """Until the conductor answers: what it tells may differ from what this life goes by."""
        while not self._ending.wait(_ASK_AGAIN_S):
            try:
                told = self.guest.ask()
            except (OSError, Refused):
                continue
            if told == self._told:
                self._is_current = True
            else:
                log.info("told otherwise than this life began with")
                self._end()
            return


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="argosy-agent", description="The guest agent of a machine.")
    parser.add_argument("--root", type=Path, default=Path("/"), help="where a simulated machine's files are")
    parser.add_argument("--config-drive", type=Path, help="a directory in place of the config drive")
    parser.add_argument("--check", action="store_true", help="load everything, say which code it is, and end")
    asked = parser.parse_args(arguments)
    layout = Layout(asked.root.resolve())
    if asked.check:
        print(renewal.check(layout))  # noqa: T201 - it is asked for
        return
    set_up()
    layout.run.mkdir(mode=0o755, parents=True, exist_ok=True)
    if not marks.hold(layout.run / "agent.json"):
        sys.exit(f"Another agent runs on this machine: it holds {layout.run / 'agent.json'}.")
    try:
        Machine(layout, asked.config_drive).live()
    except ArgosyError as error:
        log.error("this machine has no agent", extra={"error": error.sentence})  # noqa: TRY400 - its sentence tells all
        sys.exit(1)


def _software(image: Path, told: Told) -> dict[str, Any]:
    """Where the image has a version's software. Raises EngineError."""
    try:
        held: list[dict[str, Any]] = json.loads(image.read_text())["software"]
    except (OSError, ValueError, KeyError) as error:
        raise EngineError(
            f"{image} does not say which software this machine has: build the image anew."
        ) from error
    for one in held:
        if (one["datastore"], one["version"]) == (told.datastore, told.version):
            return one
    names = ", ".join(f"{one['datastore']} {one['version']}" for one in held) or "nothing"
    raise EngineError(
        f"This machine's image holds {names}, and not {told.datastore} {told.version}: build an image with it."
    )


def _link(point: Path, stand_in: Path) -> None:
    if point.is_symlink() and point.readlink() == stand_in:
        return
    point.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    point.unlink(missing_ok=True)
    point.symlink_to(stand_in)


def _wait_until_there(address: str, *, at_most_s: float | None = None) -> None:
    """Until an interface has the address: the network comes up beside us."""
    began = time.monotonic()
    tries = 0
    while not _is_there(address):
        if tries % 60 == 0:
            log.warning("waiting for an address of this machine", extra={"address": address})
        if at_most_s is not None and time.monotonic() - began > at_most_s:
            return
        tries += 1
        time.sleep(_POLL_S)


def _is_there(address: str) -> bool:
    try:
        with socket.create_server((address, 0)):
            return True
    except OSError:
        return False


if __name__ == "__main__":
    main()
