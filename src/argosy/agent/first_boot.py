"""How a machine's guest comes by an identity of its own, and knows at each boot what it is to be.

The keys are made here, and stored before anybody is asked to sign them: a guest that is killed before it has stored the
answer asks again with the same ones, which is all that the bootstrap identity is still good for. They stay for the
machine's life; a machine made anew makes others.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from ssl import SSLContext

from argosy.agent import config_drive
from argosy.agent.conductor import Conductor, Refused
from argosy.agent.layout import Layout
from argosy.domain.errors import Failed
from argosy.domain.guest import Told
from argosy.engines.host import Account
from argosy.files import write_file, write_once
from argosy.rpc.enrolment import Bootstrap, Enrol
from argosy.rpc.tls import client_context

log = logging.getLogger(__name__)

# Between two attempts; the last one again and again. A conductor that refuses may think better of it as well, as when
# an operator has it make another identity.
BACK_OFF_S = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)


class Guest:
    """What this machine's guest is, kept below `layout.guest`."""

    def __init__(self, layout: Layout, account: Account, drive: Path | None) -> None:
        """`account` runs the database server, `drive` is a directory in place of the config drive."""
        self._layout = layout
        self._account = account
        self._drive = drive
        self.conductor_url = ""
        self.heard = False  # whether the conductor itself told it in this life

    @property
    def rpc_files(self) -> tuple[Path, Path, Path]:
        """CA, certificate and key."""
        place = self._layout.identity
        return place / "ca.crt", place / "guest.crt", place / "guest.key"

    @property
    def tls_files(self) -> tuple[Path, Path, Path]:
        place = self._layout.tls
        return place / "ca.crt", place / "server.crt", place / "server.key"

    @property
    def enrolled(self) -> bool:
        return self._layout.enrolled.exists()

    @property
    def certificate_is_new(self) -> bool:
        """Whether a running database server may still show the one before."""
        return self._renewed.exists()

    def certificate_is_shown(self) -> None:
        self._renewed.unlink(missing_ok=True)

    def learn(self) -> Told:
        """Enrol when that was not done yet, and ask what it is to be; what was told last holds while nobody answers.

        Raises NoConfigDrive for a machine that cannot enrol; waits for as long as it takes otherwise.
        """
        self._lay()
        if not self._layout.simulated:
            config_drive.close_to_others()
        if not self.enrolled:
            bootstrap = config_drive.read(self._drive, self._layout.run)
            self._enrol_first(bootstrap)
            self.heard = True
            return self._stored()
        self.conductor_url = json.loads(self._layout.enrolled.read_text())["conductor_url"]
        with suppress(OSError, Failed):
            self.ask()
        return self._stored()

    def ask(self) -> Told:
        """Of the conductor. Enrols anew where the certificates do not fit any more. Raises OSError and Refused."""
        conductor = self.conductor()
        try:
            told = conductor.told()
            if _names(told) != _names(self._signed_for()):
                told = self._enrol(conductor)
        except (OSError, Refused) as error:
            log.warning("not told what this machine is to be", extra={"error": str(error)})
            raise
        self._store(told)
        self.heard = True
        return told

    def conductor(self) -> Conductor:
        return Conductor(self.conductor_url, client_context(*self.rpc_files))

    def _enrol_first(self, bootstrap: Bootstrap) -> None:
        self.conductor_url = bootstrap.conductor_url
        conductor = Conductor(bootstrap.conductor_url, _bootstrap_context(bootstrap))
        told = _persistently(lambda: self._enrol(conductor))
        if told.instance_id != bootstrap.instance_id:
            raise Failed(f"The conductor takes this machine for {told.instance_id}.", code="wrong-identity")
        self._store(told)
        log.info("enrolled", extra={"instance_id": told.instance_id, "identity": told.identity})

    def _enrol(self, conductor: Conductor) -> Told:
        """Have the keys signed; what is written last says that it is done."""
        asked = Enrol(
            rpc_request=_signing_request(self.rpc_files[2], Account.own()),
            tls_request=_signing_request(self.tls_files[2], self._account),
        )
        answer = conductor.enrol(asked)
        told = Told.of(answer.told)
        self._renewed.touch(mode=0o600)
        for path, text in zip(
            (*self.rpc_files[:2], *self.tls_files[:2]),
            (answer.rpc_ca, answer.rpc_certificate, answer.tls_ca, answer.tls_certificate),
            strict=True,
        ):
            write_file(path, text, 0o644)
        self._store(told)
        enrolled = {"conductor_url": self.conductor_url, "told": asdict(told)}
        write_file(self._layout.enrolled, json.dumps(enrolled, indent=1), 0o600)
        return told

    def _lay(self) -> None:
        own = Account.own()
        for path, mode, group in (
            (self._layout.run, 0o755, own.gid),
            (self._layout.guest, 0o711, own.gid),
            (self._layout.identity, 0o700, own.gid),
            (self._layout.tls, 0o750, self._account.gid),
        ):
            path.mkdir(mode=mode, parents=True, exist_ok=True)
            os.chown(path, own.uid, group)
            path.chmod(mode)

    def _signed_for(self) -> Told:
        return Told.of(json.loads(self._layout.enrolled.read_text())["told"])

    def _stored(self) -> Told:
        return Told.of(json.loads(self._layout.told.read_text()))

    def _store(self, told: Told) -> None:
        write_file(self._layout.told, json.dumps(asdict(told), indent=1), 0o600)

    @property
    def _renewed(self) -> Path:
        return self._layout.tls / "renewed"


def _names(told: Told) -> tuple[object, ...]:
    """What the certificates say of a guest."""
    return told.identity, told.rpc_address, told.addresses


def _persistently(enrol: Callable[[], Told]) -> Told:
    attempt = 0
    while True:
        try:
            return enrol()
        except (OSError, Refused) as error:
            pause_s = BACK_OFF_S[min(attempt, len(BACK_OFF_S) - 1)]
            log.warning("not enrolled", extra={"error": str(error), "again_in_s": pause_s})
            time.sleep(pause_s)
            attempt += 1


def _bootstrap_context(bootstrap: Bootstrap) -> SSLContext:
    """Through memory: the bootstrap identity is on no disk of the machine."""
    files = []
    try:
        for text in (bootstrap.ca, bootstrap.certificate, bootstrap.key):
            descriptor = os.memfd_create("bootstrap")
            files.append(descriptor)
            os.write(descriptor, text.encode())
        ca, certificate, key = (Path(f"/proc/self/fd/{descriptor}") for descriptor in files)
        return client_context(ca, certificate, key)
    finally:
        for descriptor in files:
            os.close(descriptor)


def _signing_request(path: Path, owner: Account) -> str:
    """For the key in a file, which is made when it is not there."""
    # Needed once in a machine's life, and slow to load.
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    if not path.exists():
        made = ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        write_once(path, made.decode(), 0o600)
    os.chown(path, owner.uid, owner.gid)
    key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError(f"{path} holds no elliptic curve key")
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM).decode()
