"""`openstack` from a process that has it loaded and forks for each call: loading is nine tenths of what a call costs.

What runs is what the program's own script runs, in a process of its own, with the arguments, the environment and the
exit status that a shell would see. tests/api/test_identity_clients.py runs the script itself.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence

_FORKED = multiprocessing.get_context("forkserver")
_FORKED.set_forkserver_preload(["tests.support.loaded_openstack"])


def call(
    arguments: Sequence[str], environment: Mapping[str, str], timeout_s: float
) -> subprocess.CompletedProcess[str]:
    """What `openstack` with these arguments did. Raises subprocess.TimeoutExpired."""
    with tempfile.NamedTemporaryFile("r") as out, tempfile.NamedTemporaryFile("r") as error:
        process = _FORKED.Process(
            target=_be_openstack, args=(list(arguments), dict(environment), out.name, error.name)
        )
        process.start()
        process.join(timeout_s)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(["openstack", *arguments], timeout_s, out.read(), error.read())
        return subprocess.CompletedProcess(
            ["openstack", *arguments], process.exitcode, out.read(), error.read()
        )


def _be_openstack(arguments: list[str], environment: dict[str, str], out: str, error: str) -> None:
    from openstackclient import shell

    for name, number in ((os.devnull, 0), (out, 1), (error, 2)):
        file = os.open(name, os.O_RDWR)
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["openstack", *arguments]
    sys.exit(shell.main())
