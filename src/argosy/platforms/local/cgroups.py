"""Memory and processor limits by control groups, version 1 or 2, and knowing every process of an instance by them.

An instance's agent and server live together in `argosy/<home>/<instance>`. Processes cannot leave their
group, so what runs in it is all there is to kill. Groups stand at the top of the tree and not below
Argosy's own: a service manager that stops Argosy then leaves the databases running.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import time
from pathlib import Path

from argosy.domain.errors import PlatformError
from argosy.platforms.local.home import Home

AGENT_MEMORY_MB = 64  # on top of the flavor's, which is the database server's alone

_MIB = 1 << 20
_PERIOD_US = 100_000
_NEEDED = ("memory", "cpu")
_TRIAL = ".trial"  # no instance's id


class Groups:
    """The groups of one home."""

    def __init__(self, home: Home, roots: dict[str, Path], version: int) -> None:
        """`roots` are where each controller's tree is mounted; in version 2 that is one place."""
        self.version = version
        self._roots = roots
        self._base = Path("argosy") / home.digest

    @classmethod
    def find(cls, home: Home) -> Groups | str:
        """The groups of this machine, or why there are none to be had: found out by making one."""
        if os.geteuid() != 0:
            return "control groups need root"
        roots, version = _mounted()
        missing = [name for name in _NEEDED if name not in roots]
        if missing:
            return f"this machine has no control group for {' and '.join(missing)}"
        groups = cls(home, roots, version)
        with home.locked("limits"):
            try:
                groups.make(_TRIAL, memory_mb=64, vcpus=1)
                groups.remove(_TRIAL)
            except PlatformError as error:
                return error.sentence.rstrip(".")
        return groups

    def make(self, instance_id: str, *, memory_mb: int, vcpus: int) -> list[Path]:
        """Make or change the instance's groups; returns the files that a process joins them by."""
        try:
            for root in self._tops():
                self._make_directory(root, self._base / instance_id)
            memory, cpu = self._directory("memory", instance_id), self._directory("cpu", instance_id)
            limit = (memory_mb + AGENT_MEMORY_MB) * _MIB
            if self.version == 2:
                _check_below(memory, limit)
                (memory / "memory.max").write_text(str(limit))
                _write_if_there(memory / "memory.swap.max", "0")
                (cpu / "cpu.max").write_text(f"{vcpus * _PERIOD_US} {_PERIOD_US}")
            else:
                # With swap counted in, that limit may never be below memory's own: lift it first.
                _write_if_there(memory / "memory.memsw.limit_in_bytes", "-1")
                (memory / "memory.limit_in_bytes").write_text(str(limit))
                _write_if_there(memory / "memory.memsw.limit_in_bytes", str(limit))
                (cpu / "cpu.cfs_period_us").write_text(str(_PERIOD_US))
                (cpu / "cpu.cfs_quota_us").write_text(str(vcpus * _PERIOD_US))
        except OSError as error:
            if error.errno == errno.EBUSY:
                raise PlatformError(
                    f"{instance_id} uses more memory than {memory_mb} MB, and {AGENT_MEMORY_MB} MB for the agent."
                ) from error
            raise PlatformError(f"No control group can be made for {instance_id}: {error}.") from error
        return self.joins(instance_id)

    def joins(self, instance_id: str) -> list[Path]:
        """The files that a process joins the instance's groups by; none when they have not all been made."""
        files = [directory / "cgroup.procs" for directory in self._directories(instance_id)]
        return files if all(file.exists() for file in files) else []

    def limits(self, instance_id: str) -> dict[str, str]:
        """What the kernel holds the instance to now, for `show`."""
        memory, cpu = self._directory("memory", instance_id), self._directory("cpu", instance_id)
        try:
            if self.version == 2:
                limit = int((memory / "memory.max").read_text())
                quota = int((cpu / "cpu.max").read_text().split()[0])
            else:
                limit = int((memory / "memory.limit_in_bytes").read_text())
                quota = int((cpu / "cpu.cfs_quota_us").read_text())
        except (OSError, ValueError):
            return dict.fromkeys(_NEEDED, "not enforced: the server has not been started")
        means = f"cgroup v{self.version}"
        return {
            "memory": f"{means}, {limit // _MIB - AGENT_MEMORY_MB} MB and {AGENT_MEMORY_MB} MB for the agent",
            "cpu": f"{means}, time of {quota / _PERIOD_US:g} vcpu at most",
        }

    def pids(self, instance_id: str) -> set[int]:
        """Every process of the instance, helpers and the agent too."""
        found: set[int] = set()
        for directory in self._directories(instance_id):
            with contextlib.suppress(OSError):
                found.update(int(pid) for pid in (directory / "cgroup.procs").read_text().split())
        return found

    def kill(self, instance_id: str) -> None:
        """Kill everything in the groups at once; returns before the processes are gone."""
        for directory in self._directories(instance_id):
            with contextlib.suppress(OSError):
                (directory / "cgroup.kill").write_text("1")  # version 2 since Linux 5.14: no fork escapes it
        for pid in self.pids(instance_id):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def remove(self, instance_id: str, timeout_s: float = 10) -> None:
        """Remove the groups, killing what is still in them. Raises PlatformError when something will not die."""
        deadline = time.monotonic() + timeout_s
        for directory in self._directories(instance_id):
            while directory.exists():
                try:
                    directory.rmdir()
                except FileNotFoundError:
                    break
                except OSError as error:
                    # The kernel lets go of a dead process only when it is through with it.
                    if error.errno != errno.EBUSY or time.monotonic() > deadline:
                        raise PlatformError(
                            f"The control group {directory} cannot be removed: {error.strerror}; it holds "
                            f"{sorted(self.pids(instance_id))}."
                        ) from error
                    self.kill(instance_id)
                    time.sleep(0.005)
        for root in self._tops():
            for directory in (root / self._base, root / self._base.parent):
                with contextlib.suppress(OSError):
                    directory.rmdir()

    def instance_ids(self) -> set[str]:
        """Instances that have a group."""
        found: set[str] = set()
        for root in self._tops():
            with contextlib.suppress(OSError):
                found.update(entry.name for entry in (root / self._base).iterdir() if entry.is_dir())
        return found - {_TRIAL}

    def _tops(self) -> list[Path]:
        return list(dict.fromkeys(self._roots[name] for name in _NEEDED))

    def _directory(self, controller: str, instance_id: str) -> Path:
        return self._roots[controller] / self._base / instance_id

    def _directories(self, instance_id: str) -> list[Path]:
        return [root / self._base / instance_id for root in self._tops()]

    def _make_directory(self, root: Path, path: Path) -> None:
        for _ in range(100):
            try:
                above = root
                for part in path.parts:
                    if self.version == 2:
                        control = above / "cgroup.subtree_control"
                        if not set(_NEEDED) <= set(control.read_text().split()):
                            control.write_text("+memory +cpu")
                    above /= part
                    above.mkdir(exist_ok=True)
            except FileNotFoundError:
                continue  # the last instance but this one went, and its parents with it
            return
        raise PlatformError(f"The control group {root / path} cannot be made: its parents keep going away.")


def _mounted() -> tuple[dict[str, Path], int]:
    """Where controllers are: each one's mount point in version 1, the same for all in version 2."""
    unified: Path | None = None
    roots: dict[str, Path] = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        words, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        point = Path(words.split(" ")[4])
        if kind == "cgroup2":
            unified = point
        elif kind == "cgroup":
            roots.update((name, point) for name in options.split(",") if name in _NEEDED)
    if unified is not None and not roots:
        with contextlib.suppress(OSError):
            present = (unified / "cgroup.controllers").read_text().split()
            return {name: unified for name in _NEEDED if name in present}, 2
    return roots, 1


def _check_below(group: Path, limit: int) -> None:
    """Version 1 refuses a limit below what is in use, version 2 kills for it. Raises OSError, as version 1 does."""
    lines = [line.split() for line in (group / "memory.stat").read_text().splitlines()]
    figures = {name: int(value) for name, value in lines}
    # What can be written out or dropped does not count.
    if sum(figures.get(name, 0) for name in ("anon", "shmem", "slab_unreclaimable", "kernel_stack")) > limit:
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))


def _write_if_there(path: Path, text: str) -> None:
    """Write a file that only kernels which count swap have."""
    if path.exists():
        path.write_text(text)
