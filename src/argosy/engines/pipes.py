"""Programs that stream: what they print is had part by part, or what comes in parts is fed to them.

They end with us: when whoever reads or feeds gives up, and when the agent dies, for then nobody holds the other
end of their pipe. `end` is for those that do not notice.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BufferedReader, RawIOBase
from itertools import chain
from pathlib import Path
from typing import IO, cast

from argosy import marks
from argosy.domain.errors import EngineError, OutOfSpace
from argosy.engines.host import Account, Host

PART_BYTES = 2**20
_TAIL_LINES = 12
_NO_ROOM = "No space left on device"


def printed(
    host: Host,
    argv: Sequence[str | Path],
    *,
    mark: Mapping[str, str],
    hear: Callable[[str], None] | None = None,
    as_agent: bool = False,
) -> Iterator[bytes]:
    """Run a program under the engine's account, or the agent's; what it prints, in parts of up to a mebibyte.

    `hear` gets its error output, line by line, from another thread. Raises EngineError with the end of that when the
    program fails; argv must hold no secret.
    """
    with _running(host, argv, mark, hear, stdout=subprocess.PIPE, as_agent=as_agent) as child:
        output = _end_of(child.stdout)
        while part := output.read(PART_BYTES):
            yield part


def feed(host: Host, argv: Sequence[str | Path], parts: Iterable[bytes], *, mark: Mapping[str, str]) -> None:
    """Run a program under the engine's account on what comes in parts.

    Raises what `parts` raises, else EngineError with the end of the program's error output, or OutOfSpace.
    """
    with _running(host, argv, mark, None, stdin=subprocess.PIPE) as child:
        _fill(_end_of(child.stdin), parts)


def look(
    host: Host, argv: Sequence[str | Path], parts: Iterator[bytes], *, mark: Mapping[str, str], most: int
) -> tuple[str, Iterator[bytes]]:
    """What a program prints that reads the beginning of a stream and ends; and the whole stream, from its beginning.

    Raises as `feed` does, and EngineError when it reads on after `most` bytes.
    """
    kept: list[bytes] = []
    told: list[bytes] = []
    with _running(host, argv, mark, None, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        entry, output = _end_of(child.stdin), _end_of(child.stdout)
        reader = threading.Thread(target=lambda: told.extend(iter(lambda: output.read(PART_BYTES), b"")))
        reader.start()
        try:
            _fill(entry, _keeping(parts, kept, most))
        except BaseException:
            child.kill()
            raise
        finally:
            reader.join()
    return b"".join(told).decode(errors="replace"), chain(kept, parts)


def end(host: Host, mark: Mapping[str, str], *, within_s: float = 10) -> None:
    """Kill what an earlier agent left running under a mark, and wait until it is gone."""
    ours = {marks.INSTANCE: host.instance_id, **mark}
    deadline = time.monotonic() + within_s
    while left := marks.marked(ours):
        if time.monotonic() > deadline:
            raise EngineError(f"{len(left)} programs of an earlier attempt do not end.")
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)


def _fill(entry: IO[bytes], parts: Iterable[bytes]) -> None:
    # A program that takes no more says why in its error output.
    with contextlib.suppress(BrokenPipeError):
        for part in parts:
            rest = memoryview(part)
            while rest:
                rest = rest[entry.write(rest) :]
        entry.close()


def _keeping(parts: Iterable[bytes], kept: list[bytes], most: int) -> Iterator[bytes]:
    size = 0
    for part in parts:
        kept.append(part)
        size += len(part)
        if size > most:
            raise EngineError(f"What is looked for is not in the first {most} bytes.")
        yield part


@contextmanager
def _running(
    host: Host,
    argv: Sequence[str | Path],
    mark: Mapping[str, str],
    hear: Callable[[str], None] | None,
    *,
    stdin: int = subprocess.DEVNULL,
    stdout: int = subprocess.DEVNULL,
    as_agent: bool = False,
) -> Iterator[subprocess.Popen[bytes]]:
    """A program, beside the body. Left well, its end is waited for; left by an exception, it is killed."""
    account = Account.own() if as_agent else host.account
    drop = account.uid != os.geteuid()
    words = [str(word) for word in argv]
    try:
        child = subprocess.Popen(
            words,
            stdin=stdin,
            stdout=stdout,
            stderr=subprocess.PIPE,
            bufsize=0,
            cwd="/",
            env=host.environment(mark),
            user=account.uid if drop else None,
            group=account.gid if drop else None,
            extra_groups=[] if drop else None,
        )
    except OSError as error:
        raise EngineError(f"{words[0]} cannot be run: {error.strerror or error}.") from error
    for stream in (child.stdin, child.stdout):
        _widen(stream)
    tail: list[str] = []
    listener = threading.Thread(target=_listen, args=(_end_of(child.stderr), tail, hear), daemon=True)
    listener.start()
    try:
        yield child
    except BaseException:
        child.kill()
        raise
    finally:
        for stream in (child.stdin, child.stdout):
            if stream is not None:
                stream.close()
        child.wait()
        listener.join(10)
    if child.returncode != 0:
        raise _failed(Path(words[0]).name, child.returncode, "\n".join(tail))


def _failed(program: str, code: int, said: str) -> EngineError | OutOfSpace:
    if _NO_ROOM in said:
        return OutOfSpace(f"{program} found no room left on the volume: make it larger (argosy resize).")
    return EngineError(f"{program} failed ({code}): {said[-1000:]}")


def _listen(output: IO[bytes], tail: list[str], hear: Callable[[str], None] | None) -> None:
    with BufferedReader(cast("RawIOBase", output)) as lines:
        for line in lines:
            text = line.decode(errors="replace").rstrip()
            if text:
                tail.append(text)
                del tail[:-_TAIL_LINES]
            if hear is not None:
                hear(text)


def _end_of(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise TypeError("the program was started without this pipe")
    return stream


def _widen(stream: IO[bytes] | None) -> None:
    """A pipe as large as a part, where the system lets us: fewer turns between the two processes."""
    if stream is not None:
        with contextlib.suppress(OSError):
            fcntl.fcntl(stream, fcntl.F_SETPIPE_SZ, PART_BYTES)
