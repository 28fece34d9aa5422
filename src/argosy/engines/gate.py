"""Which addresses a server's port hears: a filter in the kernel, for servers that cannot choose by themselves.

It is a classic BPF program on the listening socket (SO_ATTACH_FILTER, socket(7)): a packet from elsewhere is
dropped before the server knows of it, so such a client waits in vain, as before a firewall. The filter goes with
the socket: nothing of the machine's own firewall is touched, nothing is left behind, no privilege is needed. The
socket is the server's; the agent reaches a running server's by a copy of it (pidfd_getfd(2)).
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from argosy.domain.errors import EngineError, Unsupported

# Not in Python's socket module (asm-generic/socket.h), as the system call is not in os (asm-generic/unistd.h).
_SO_ATTACH_FILTER, _SO_DETACH_FILTER = 26, 27
_PIDFD_GETFD = 438

# Instructions of linux/filter.h. The source address is at 12 in the IP header (RFC 791), which SKF_NET_OFF reaches.
_LOAD_WORD, _AND, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x54, 0x15, 0x06
_SOURCE = 0xFFF00000 + 12
_ALL, _NOTHING = 0xFFFFFFFF, 0

# net/tcp_states.h
_ESTABLISHED, _LISTENS = "01", "0A"

_BACKLOG = 150

_libc = ctypes.CDLL(None, use_errno=True)


def networks_of(cidrs: Sequence[str]) -> tuple[IPv4Network, ...]:
    return tuple(IPv4Network(cidr, strict=False) for cidr in cidrs)


def is_let_in(address: str, networks: Sequence[IPv4Network]) -> bool:
    """Whether a client of this address may be there; what is no IPv4 address did not come by the network."""
    try:
        client = IPv4Address(address)
    except ValueError:
        return True
    return not networks or any(client in network for network in networks)


def check() -> None:
    """Raises Unsupported where the kernel lacks what this needs."""
    try:
        with socket.socket() as probe:
            _attach(probe, networks_of(["127.0.0.1"]))
            os.close(_copied(os.getpid(), probe.fileno()))
    except OSError as error:
        raise Unsupported(
            f"This machine's kernel cannot hold clients off by their addresses ({error.strerror}): "
            "Linux 5.6 or later can. Leave allowed_cidrs out."
        ) from error


def listen(address: str, port: int, networks: Sequence[IPv4Network]) -> socket.socket:
    """A listening socket to hand to a server, which hears these networks alone from its first moment."""
    listening = socket.socket()
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _attach(listening, networks)
        listening.bind((address, port))
        listening.listen(_BACKLOG)
    except OSError as error:
        listening.close()
        raise EngineError(f"Port {port} of {address} cannot be listened on: {error.strerror}.") from error
    return listening


def hear_only(pid: int, networks: Sequence[IPv4Network]) -> None:
    """Have a running server's TCP port hear these networks alone; all, when there are none.

    Who is connected stays so: see `cut_off`.
    """
    heard = 0
    for listening in _sockets(pid):
        with closing(listening):
            if listening.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                _attach(listening, networks)
                heard += 1
    if not heard:
        raise EngineError("The database server does not listen on its port.")


def cut_off(
    pid: int, address: str, port: int, networks: Sequence[IPv4Network], *, within_s: float = 10
) -> None:
    """End the connections of a running server with clients from elsewhere. Call `hear_only` first.

    One that the server has not accepted yet is waited for. Raises EngineError when some are left in the end.
    """
    deadline = time.monotonic() + within_s
    while any(not is_let_in(client, networks) for client in _clients(address, port)):
        if time.monotonic() > deadline:
            raise EngineError(f"Some connections have not ended after {within_s:.0f} s: try again later.")
        for connected in _sockets(pid):
            with closing(connected), suppress(OSError):
                if not is_let_in(connected.getpeername()[0], networks):
                    connected.shutdown(socket.SHUT_RDWR)
        time.sleep(0.001)


def _clients(address: str, port: int) -> list[str]:
    """Who is connected to an address and port, whether its server has accepted it or not (proc_net_tcp.txt)."""
    own = f"{socket.inet_aton(address)[::-1].hex().upper()}:{port:04X}"
    rows = [line.split()[1:4] for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [
        socket.inet_ntoa(bytes.fromhex(remote.partition(":")[0])[::-1])
        for local, remote, state in rows
        if local == own and state == _ESTABLISHED
    ]


def serving(pids: Sequence[int]) -> list[int]:
    """Which of these processes hold a connection that came by the network."""
    connected: set[str] = set()
    for table in ("tcp", "tcp6"):
        with suppress(FileNotFoundError):  # a machine without IPv6
            lines = Path(f"/proc/net/{table}").read_text().splitlines()[1:]
            connected |= {f"socket:[{words[9]}]" for words in map(str.split, lines) if words[3] != _LISTENS}
    return [pid for pid in pids if not connected.isdisjoint(_links(pid).values())]


def described(cidrs: Sequence[str], means: str) -> str:
    """For `show`: how many networks, and what keeps the others out."""
    if not cidrs:
        return "any address"
    return f"{means}, {len(cidrs)} network{'s' if len(cidrs) > 1 else ''}"


def _attach(listening: socket.socket, networks: Sequence[IPv4Network]) -> None:
    if not networks:
        with suppress(FileNotFoundError):  # there is no filter
            listening.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)
        return
    program = b"".join(struct.pack("HBBI", *instruction) for instruction in _program(networks))
    held = ctypes.create_string_buffer(program, len(program))
    described = struct.pack("HP", len(program) // 8, ctypes.addressof(held))  # struct sock_fprog
    listening.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, described)


def _program(networks: Sequence[IPv4Network]) -> Iterator[tuple[int, int, int, int]]:
    for network in networks:
        yield _LOAD_WORD, 0, 0, _SOURCE
        yield _AND, 0, 0, int(network.netmask)
        yield _JUMP_IF_EQUAL, 0, 1, int(network.network_address)  # else over the next one
        yield _RETURN, 0, 0, _ALL
    yield _RETURN, 0, 0, _NOTHING


def _sockets(pid: int) -> Iterator[socket.socket]:
    """Copies of a process's TCP sockets."""
    for number in [number for number, link in _links(pid).items() if link.startswith("socket:")]:
        try:
            copied = _copied(pid, number)
        except OSError as error:
            if error.errno in {errno.EBADF, errno.ESRCH}:  # closed meanwhile
                continue
            raise _out_of_reach(error) from error
        try:
            copy = socket.socket(fileno=copied)
        except OSError:  # another file has the number meanwhile
            os.close(copied)
            continue
        if copy.family == socket.AF_INET and copy.type == socket.SOCK_STREAM:
            yield copy
        else:
            copy.close()


def _links(pid: int) -> dict[int, str]:
    """What each of a process's open files is."""
    links: dict[int, str] = {}
    with suppress(FileNotFoundError, ProcessLookupError):
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(FileNotFoundError):
                links[int(entry.name)] = str(entry.readlink())
    return links


def _copied(pid: int, number: int) -> int:
    process = os.pidfd_open(pid)
    try:
        copy: int = _libc.syscall(_PIDFD_GETFD, process, number, 0)
    finally:
        os.close(process)
    if copy < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return copy


def _out_of_reach(error: OSError) -> Unsupported:
    return Unsupported(
        f"The agent cannot reach the running server's sockets ({error.strerror}), for want of the right to trace "
        "it (ptrace(2), kernel.yama.ptrace_scope): clients cannot be held off by their addresses here."
    )
