"""Objects of the store by signed URLs: whatever conductor and store do, a transfer goes on when they do, or says why not."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain, repeat
from pathlib import Path
from typing import Any, ClassVar

import pytest

from argosy.agent.transfer import Transfers
from argosy.domain.errors import Failed, Unavailable
from argosy.rpc.messages import Archive
from argosy.rpc.urls import PATH
from argosy.storage.archive import CHUNK_BYTES, Objects, Reader, Writer
from argosy.storage.base import ObjectNotFound, StoreFull
from tests.support.certificates import TestAuthority

OK = 200
ARCHIVE = Archive(id="b", container="backups", prefix="i/b/", key=bytes(32).hex())
CUT = -1  # the connection, before it answers
SHORT = -2  # the answer, in its middle


class Place(ThreadingHTTPServer):
    """Conductor and store in one. `faults` are what the next requests get instead of an answer, by path's beginning."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.held: dict[str, bytes] = {}
        self.asked: list[list[str]] = []
        self.faults: dict[str, Iterator[int]] = {}
        self.connections = 0
        self.authority: str | None = None

    def fail(self, path: str, *how: int, always: bool = False) -> None:
        self.faults[path] = chain(repeat(how[0])) if always else iter(how)

    def fault(self, path: str) -> int | None:
        for beginning, faults in self.faults.items():
            if path.startswith(beginning):
                return next(faults, None)
        return None

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away are the tests' own doing."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Place
    quiet: ClassVar = True

    def setup(self) -> None:
        super().setup()
        self.server.connections += 1

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
        """Nothing."""

    def _answered_otherwise(self) -> bool:
        fault = self.server.fault(self.path)
        if fault is None:
            return False
        if fault == CUT:
            self.close_connection = True
        elif fault == SHORT:
            self.send_response(OK)
            self.send_header("Content-Length", "100")
            self.end_headers()
            self.wfile.write(b"half")
            self.close_connection = True
        else:
            self._answer(fault, b"no")
        return True

    def _answer(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _content(self) -> bytes:
        return self.rfile.read(int(self.headers["Content-Length"]))

    def do_POST(self) -> None:
        content = self._content()
        if self._answered_otherwise():
            return
        assert self.path == PATH
        wanted = json.loads(content)
        self.server.asked.append(wanted["names"])
        urls = [f"{self.server.url}/store/{name}?signed={wanted['method']}" for name in wanted["names"]]
        self._answer(OK, json.dumps({"urls": urls, "authority": self.server.authority}).encode())

    def do_PUT(self) -> None:
        content = self._content()
        if not self._answered_otherwise():
            self.server.held[self.path.partition("?")[0].removeprefix("/store/")] = content
            self._answer(201, b"")

    def do_GET(self) -> None:
        if self._answered_otherwise():
            return
        held = self.server.held.get(self.path.partition("?")[0].removeprefix("/store/"))
        self._answer(404 if held is None else OK, held or b"")


@contextmanager
def serving() -> Iterator[Place]:
    place = Place()
    thread = threading.Thread(target=place.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield place
    finally:
        place.shutdown()
        place.server_close()
        thread.join()


@pytest.fixture
def place() -> Iterator[Place]:
    with serving() as served:
        yield served


@contextmanager
def reaching(place: Place, patience_s: float = 30) -> Iterator[Objects]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    transfers = Transfers(place.url, context, "i")
    try:
        yield transfers.objects(ARCHIVE.model_copy(update={"patience_s": patience_s}))
    finally:
        transfers.close()


@pytest.fixture
def objects(place: Place) -> Iterator[Objects]:
    with reaching(place) as reached:
        yield reached


def test_an_archive_goes_through_below_its_prefix(place: Place, objects: Objects) -> None:
    stream = b"row " * (5 * CHUNK_BYTES // 4)
    with Writer(objects, "b", bytes(32)) as writer:
        writer.write(stream)
        writer.finish({})
    assert sorted(place.held) == [
        *(f"i/b/chunk-0000000{number}" for number in range(5)),
        "i/b/manifest.json",
    ]
    assert b"".join(Reader(objects, "b", bytes(32)).read()) == stream


def test_a_store_may_have_an_authority_of_its_own(tmp_path: Path) -> None:
    authority = TestAuthority()
    issued = authority.issue("127.0.0.1")
    (tmp_path / "own.pem").write_text(issued.key + issued.certificate)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tmp_path / "own.pem")
    with serving() as place:
        place.socket = server.wrap_socket(place.socket, server_side=True)
        place.url = place.url.replace("http:", "https:")
        context = ssl.create_default_context(cadata=authority.certificate)
        with closing(Transfers(place.url, context, "i", patience_s=0)) as transfers:
            with pytest.raises(Unavailable, match="CERTIFICATE_VERIFY_FAILED"):
                transfers.objects(ARCHIVE).put("chunk-00000000", b"x")
            place.authority = authority.certificate
            objects = transfers.objects(ARCHIVE)
            objects.put("chunk-00000000", b"x")
            assert objects.get("chunk-00000000") == b"x"


def test_urls_are_asked_for_ahead_and_connections_kept(place: Place, objects: Objects) -> None:
    for number in range(16):
        objects.put(f"chunk-{number:08}", b"x")
    assert len(place.asked) == 1
    assert len(place.asked[0]) == 16
    assert place.connections == 2  # one as ourselves, to the conductor; one to the store


@pytest.mark.parametrize("fault", [500, 502, 503, 429, 403, 408, CUT, SHORT])
def test_what_may_pass_is_tried_again(place: Place, objects: Objects, fault: int) -> None:
    place.fail(PATH, CUT)
    place.fail("/store/", fault)
    objects.put("chunk-00000000", b"x")
    place.fail("/store/", fault)
    assert objects.get("chunk-00000000") == b"x"


def test_a_store_that_stays_away_is_given_up_with_what_it_said(place: Place) -> None:
    place.fail("/store/", 500, always=True)
    told = r"Writing chunk-00000000 to the store .* the store answered 500: no"
    with reaching(place, 0.2) as impatient, pytest.raises(Unavailable, match=told):
        impatient.put("chunk-00000000", b"x")


def test_nobody_listening_is_given_up_with_the_reason() -> None:
    with serving() as gone:
        pass
    with reaching(gone, 0.2) as objects, pytest.raises(Unavailable, match="ConnectionRefusedError"):
        objects.get("chunk-00000000")


def test_a_full_store_is_told_at_once(place: Place, objects: Objects) -> None:
    place.fail("/store/", 507, always=True)
    with pytest.raises(StoreFull):
        objects.put("chunk-00000000", b"x")


@pytest.mark.parametrize("status", [400, 413])
def test_a_store_that_refuses_for_good_is_told_at_once(place: Place, objects: Objects, status: int) -> None:
    place.fail("/store/", status, always=True)
    with pytest.raises(Failed, match=f"the store answered {status}: no"):
        objects.put("chunk-00000000", b"x")


def test_an_operation_that_has_ended_ends_its_transfers(place: Place, objects: Objects) -> None:
    place.fail(PATH, 403, always=True)
    with pytest.raises(Failed, match="the operation has ended"):
        objects.put("chunk-00000000", b"x")


def test_what_is_not_there_is_told_at_once(objects: Objects) -> None:
    with pytest.raises(ObjectNotFound):
        objects.get("chunk-00000000")


def test_a_full_store_ends_the_writing_of_an_archive(place: Place, objects: Objects) -> None:
    """And afterwards nothing of it is on its way, so that a second attempt does not meet the first."""
    place.fail("/store/i/b/chunk-00000001", 507, always=True)
    with pytest.raises(StoreFull), Writer(objects, "b", bytes(32)) as writer:
        write_until_it_fails(writer)
    assert "i/b/manifest.json" not in place.held
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("archive")]


def write_until_it_fails(writer: Writer) -> None:
    for _ in range(10):
        writer.write(bytes(CHUNK_BYTES))
