"""What stands in for a database server in tests of platforms: a real process that answers at an address.

Run as `python3 stand_in_server.py ADDRESS PORT DATA`, by any Python, under the account of an engine. Each line sent
to it is a request: `account`, `fill MB` (a file in the data directory), `eat MB` (memory), `fork` (a child
without marks, as PostgreSQL's are; answers its pid).
"""

from __future__ import annotations

import os
import socketserver
import subprocess
import sys
from pathlib import Path

_eaten: list[bytearray] = []
_children: list[subprocess.Popen[bytes]] = []


class _Answer(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        for line in self.rfile:
            words = line.decode().split()
            try:
                answer = answer_to(words[0], words[1:])
            except OSError as error:
                answer = f"error {error.errno}"
            self.wfile.write(f"{answer}\n".encode())


def answer_to(request: str, arguments: list[str]) -> str:
    if request == "account":
        return f"{os.geteuid()} {os.getegid()}"
    if request == "fork":
        child = subprocess.Popen(["/bin/sleep", "600"], env={}, start_new_session=True)
        _children.append(child)
        return str(child.pid)
    size = int(arguments[0]) << 20
    if request == "fill":
        with Path(sys.argv[3], "filling").open("ab") as file:
            os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, size)
        return "filled"
    eaten = bytearray(size)
    eaten[::4096] = b"x" * len(eaten[::4096])  # touched, not only promised
    _eaten.append(eaten)
    return "eaten"


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


if __name__ == "__main__":
    with _Server((sys.argv[1], int(sys.argv[2])), _Answer) as server:
        server.serve_forever()
