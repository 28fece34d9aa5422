"""Kills a control plane at every step of an operation, repeats the operation, and looks at what there is.

Run as `python -m tests.support.crash_walk build|destroy STRIDE`. A step is anything Python is about to do to the system:
write a file, make or remove one, run a program, lock, bind, send a signal. Kills before every STRIDE-th of
them; prints what it found wrong, and how many kills there were in the last line.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any

from tests.support.local_platform import LocalSite

_ACTS = {
    "fcntl.flock", "fcntl.ioctl", "os.chmod", "os.chown", "os.kill", "os.mkdir", "os.posix_spawn", "os.remove",
    "os.rename", "os.rmdir", "os.symlink", "shutil.rmtree", "socket.bind", "subprocess.Popen",
}  # fmt: skip
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def killed_at(step: int, act: Callable[[], None]) -> bool:
    """Act in a process that is killed before its step of that number; False when it had fewer."""
    pid = os.fork()
    if pid == 0:
        left = step

        def count(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal left
            if event in _ACTS or (event == "open" and arguments[2] & _WRITES):
                left -= 1
                if left == -1:  # and no more: this kill is a step too
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        try:
            act()
        except BaseException:  # noqa: BLE001 - a fork of a test must not go on as one
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    status = os.waitpid(pid, 0)[1]
    assert os.WIFSIGNALED(status) or status == 0
    return os.WIFSIGNALED(status)


def act(site: LocalSite, operation: str, instance_id: str) -> None:
    """The operation, by a control plane that has just started."""
    site.restart()
    if operation == "build":
        site.build(instance_id)
    else:
        site.destroy(instance_id)


def built_wrong(site: LocalSite, instance_id: str) -> list[str]:
    server = site.platform.servers.find(instance_id)
    if server is None:
        return ["there is no server"]
    site.wait_until_serving(server)
    traces = [trace.split()[0] for trace in site.traces(instance_id)]
    wanted = {"process": 2, "file": 1, "link": 1}
    if os.geteuid() == 0:
        wanted |= {"mount": 1, "loop": 1}
    return [
        f"{traces.count(kind)} of {kind} instead of {number}"
        for kind, number in wanted.items()
        if traces.count(kind) != number
    ] + site.platform.servers.leftovers([instance_id])


def main(operation: str, stride: int) -> int:
    site = LocalSite()
    step, wrong = 0, []
    try:
        while True:
            instance_id = site.new_id()
            if operation == "destroy":
                site.build_and_wait(instance_id)
            killed = killed_at(step, functools.partial(act, site, operation, instance_id))
            act(site, operation, instance_id)
            found = built_wrong(site, instance_id) if operation == "build" else []
            site.destroy(instance_id)
            found += site.traces(instance_id) + site.platform.servers.leftovers([])
            wrong += [f"killed at step {step}: {one}" for one in found]
            if not killed:
                break
            step += stride
    finally:
        site.close()
    print(*wrong, step // stride, sep="\n")  # noqa: T201 - this is what it is for
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
