"""Logins and tokens.

A token is 256 random bits of which the database keeps the SHA-256, so it can be revoked, survives a restart, and
cannot be read out of a stolen database. What a token is worth is read anew with everything it hangs on (the user,
the project, the roles as they are now), and remembered for a few seconds: that is how long another process may
take to notice a revocation; this one notices at once.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from argosy.domain.errors import NotFound, Unauthorized
from argosy.domain.identity import ApplicationCredential, Caller, Project, Session, Token, User
from argosy.identity.cache import BriefCache
from argosy.identity.callers import Callers
from argosy.identity.lockout import Lockout
from argosy.identity.passwords import Passwords
from argosy.identity.proofs import CredentialProof, PasswordProof, Proof, Reference, Scope, TokenProof
from argosy.identity.store import AccountStore

NOT_AUTHENTICATED = "The request you have made requires authentication."
_SWEEP_EVERY_S = 600
_ID = re.compile("[0-9a-f]{32}")
_PROVEN_FOR_S = 600


@dataclass(frozen=True, slots=True)
class _Known:
    session: Session
    caller: Caller


@dataclass(frozen=True, slots=True)
class _Proven:
    """Who proved to be whom; `hashes` are those of the password that was right."""

    user: User
    hashes: tuple[str | None, ...]
    methods: tuple[str, ...]
    expires_at: datetime
    credential: ApplicationCredential | None = None


class Identity(Callers):
    """The built-in accounts. To them the token of another service adds nothing.

    `admin_roles` are compared without regard to case. `now` tells dates, `clock` seconds that never go back.
    """

    def __init__(
        self,
        store: AccountStore,
        *,
        token_lifetime: timedelta = timedelta(hours=24),
        cache_s: float = 5,
        admin_roles: Iterable[str] = ("admin",),
        passwords: Passwords | None = None,
        lockout: Lockout | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.passwords = passwords or Passwords()
        self._store = store
        self._lifetime = token_lifetime
        self._admin_roles = frozenset(role.casefold() for role in admin_roles)
        self._lockout = lockout or Lockout(clock=clock)
        self._now = now
        self._clock = clock
        self._known: BriefCache[_Known] = BriefCache(cache_s, clock=clock)
        self._basic: BriefCache[Caller] = BriefCache(cache_s, clock=clock)
        # Which hash a password was found to match, so that basic authentication pays for argon2 seldom. It stays
        # right when accounts change, because the hash is compared with the user's present one.
        self._matched: BriefCache[str] = BriefCache(_PROVEN_FOR_S, clock=clock)
        self._key = secrets.token_bytes(32)
        self._swept_at = clock()

    # Every request

    def caller_of(self, token: str, service_token: str | None = None) -> Caller:  # noqa: ARG002 - adds nothing
        """Who holds this token. Raises Unauthorized when it is unknown, expired or revoked.

        Costs microseconds when asked again within `cache_s`, else a few short queries.
        """
        return self._look_up(token).caller

    def known_caller(self, token: str, service_token: str | None = None) -> Caller | None:  # noqa: ARG002 - adds nothing
        """Like `caller_of` when it was asked a moment ago, else None: never waits, so an event loop may ask."""
        known = self._known.get(_digest(token))
        return None if known is None else known.caller

    def session_of(self, token: str) -> Session:
        """What a token stands for, with the roles it has now. Raises Unauthorized like `caller_of`."""
        return self._look_up(token).session

    def authenticate_basic(self, authorization: str, source: str) -> Caller:
        """The caller of an `Authorization: Basic` header, in their default project, or the only one they have.

        Remembers a good answer like `caller_of`; a new password costs one argon2. Raises Unauthorized.
        """
        key = hmac.digest(self._key, authorization.encode(), "sha256")
        known = self._basic.get(key)
        if known is not None:
            return known
        generation = self._basic.generation
        name, password = _name_and_password(authorization)
        user = self._store.user_named(name)
        if user is None or not user.enabled or self._matched.get(key) != user.password_hash:
            user = self._check_password(user, name, password, source)
            if user.password_hash is not None:
                self._matched.remember(key, user.password_hash, self._matched.generation)
        project = self._own_project(user)
        if project is None:
            raise Unauthorized(
                "You have no default project and not exactly one project: "
                "ask an administrator for `openstack user set --project`, or use a token."
            )
        roles = frozenset(role.name for role in self._store.roles_of(user.id, project.id))
        caller = self._caller(user, project, roles)
        self._basic.remember(key, caller, generation)
        return caller

    def check_project(self, project_id: str) -> None:
        """Raises NotFound when there is no such project."""
        # What is no id, such as text with a NUL, PostgreSQL would refuse.
        if not _ID.fullmatch(project_id) or self._store.project(project_id) is None:
            raise NotFound(f"There is no project {project_id[:64]!r}.")

    def log_in_at(self, base_url: str) -> str:
        return f"{base_url}/identity/v3"

    # Logging in and out

    def login(self, proof: Proof, scope: Scope, source: str) -> tuple[str, Session]:
        """A new token for who can prove who they are; `source` is where from, for counting failures.

        A token got with a token, or with an application credential, lives no longer than that and is worth no
        more. Raises Unauthorized, with one sentence for an unknown user and for a wrong password.
        """
        match proof:
            case PasswordProof():
                proven = self._prove_password(proof, source)
            case TokenProof():
                proven = self._prove_token(proof)
            case CredentialProof():
                proven = self._prove_credential(proof, source)
        project = self._project_asked(proven, scope)
        text = secrets.token_hex(
            32
        )  # never begins with a dash, which a command line would take for an option
        token = Token(
            digest=_digest(text).hex(),
            user_id=proven.user.id,
            project_id=None if project is None else project.id,
            application_credential_id=None if proven.credential is None else proven.credential.id,
            methods=proven.methods,
            audit_id=secrets.token_urlsafe(16),
            issued_at=self._now(),
            expires_at=proven.expires_at,
        )
        if not self._store.add_token(token, proven.hashes):
            raise Unauthorized(NOT_AUTHENTICATED)
        self._sweep()
        return text, self.session_of(text)

    def revoke(self, token: str) -> None:
        """End a token. One that is not there is left alone."""
        digest = _digest(token)
        self._store.delete_token(digest.hex())
        self._known.forget(digest)

    def accounts_changed(self) -> None:
        """Forget what was read: users, projects or roles are different now."""
        self._known.clear()
        self._basic.clear()

    def check_password(self, user_id: str, password: str, source: str) -> None:
        """Raises Unauthorized unless it is the user's; failures count as those of a login."""
        self._check_password(self._store.user(user_id), user_id, password, source)

    # How

    def _look_up(self, token: str) -> _Known:
        digest = _digest(token)
        known = self._known.get(digest)
        if known is None:
            generation = self._known.generation
            session = self._read(digest)
            left_s = (session.token.expires_at - self._now()).total_seconds()
            roles = frozenset(role.name for role in session.roles)
            known = _Known(session, self._caller(session.user, session.project, roles))
            self._known.remember(digest, known, generation, at_most_s=left_s)
        return known

    def _read(self, digest: bytes) -> Session:
        session = self._store.session(digest.hex())
        if session is None or session.token.expires_at <= self._now() or not session.user.enabled:
            raise Unauthorized(NOT_AUTHENTICATED)
        if session.credential is not None:
            self._check_credential_lives(session.credential)
            held = tuple(role for role in session.roles if role.id in session.credential.role_ids)
            session = replace(session, roles=held)
        if session.token.project_id is not None and (
            session.project is None or not session.project.enabled or not session.roles
        ):
            raise Unauthorized(NOT_AUTHENTICATED)
        return session

    def _caller(self, user: User, project: Project | None, roles: frozenset[str]) -> Caller:
        return Caller(
            user_id=user.id,
            user_name=user.name,
            project_id="" if project is None else project.id,
            project_name="" if project is None else project.name,
            roles=roles,
            is_admin=any(role.casefold() in self._admin_roles for role in roles),
        )

    def _prove_password(self, proof: PasswordProof, source: str) -> _Proven:
        found = self._find_user(proof.user)
        named = proof.user.name or proof.user.id or ""
        user = self._check_password(found, named, proof.password, source)
        hashes = [user.password_hash]
        if user.password_hash is not None and self.passwords.is_outdated(user.password_hash):
            stronger = self.passwords.hash(proof.password)
            self._store.replace_hash(user.id, user.password_hash, stronger)
            hashes.append(stronger)
        return _Proven(user, tuple(hashes), ("password",), self._now() + self._lifetime)

    def _prove_token(self, proof: TokenProof) -> _Proven:
        # Not from the cache: a revoked token must not beget another.
        old = self._read(_digest(proof.token))
        methods = tuple(dict.fromkeys(("token", *old.token.methods)))
        return _Proven(old.user, (old.user.password_hash,), methods, old.token.expires_at, old.credential)

    def _prove_credential(self, proof: CredentialProof, source: str) -> _Proven:
        credential: ApplicationCredential | None = None
        if proof.credential.id is not None:
            credential = self._store.credential(proof.credential.id)
        elif proof.credential.name is not None and proof.user is not None:
            owner = self._find_user(proof.user)
            if owner is not None:
                credential = self._store.credential_named(owner.id, proof.credential.name)
        key = ("credential", credential.id if credential else proof.credential, source)
        self._lockout.check(key)
        user = self._store.user(credential.user_id) if credential else None
        right = self.passwords.matches(credential.secret_hash if credential else None, proof.secret)
        if not right or credential is None or user is None or not user.enabled:
            self._lockout.failed(key)
            raise Unauthorized(NOT_AUTHENTICATED)
        self._lockout.succeeded(key)
        self._check_credential_lives(credential)
        expires_at = self._now() + self._lifetime
        if credential.expires_at is not None:
            expires_at = min(expires_at, credential.expires_at)
        return _Proven(user, (user.password_hash,), ("application_credential",), expires_at, credential)

    def _check_password(self, user: User | None, named: str, password: str, source: str) -> User:
        key = ("user", user.id if user else named, source)
        self._lockout.check(key)
        # The hash is worked through whether or not there is such a user, so that the time tells nothing.
        right = self.passwords.matches(user.password_hash if user else None, password)
        if not right or user is None or not user.enabled:
            self._lockout.failed(key)
            raise Unauthorized(NOT_AUTHENTICATED)
        self._lockout.succeeded(key)
        return user

    def _check_credential_lives(self, credential: ApplicationCredential) -> None:
        if credential.expires_at is not None and credential.expires_at <= self._now():
            raise Unauthorized("The application credential has expired: make a new one.")

    def _find_user(self, reference: Reference) -> User | None:
        if reference.id is not None:
            return self._store.user(reference.id)
        if reference.name is not None and reference.in_our_domain:
            return self._store.user_named(reference.name)
        return None

    def _project_asked(self, proven: _Proven, scope: Scope) -> Project | None:
        if scope == "unscoped":
            if proven.credential is not None:
                raise Unauthorized("An application credential is good for its own project only.")
            return None
        if proven.credential is not None:
            project = self._store.project(proven.credential.project_id)
            if isinstance(scope, Reference) and project is not None and not _names(scope, project):
                raise Unauthorized("An application credential is good for its own project only.")
        elif scope is None:
            return self._own_project(proven.user)
        elif scope.id is not None:
            project = self._store.project(scope.id)
        elif scope.name is not None and scope.in_our_domain:
            project = self._store.project_named(scope.name)
        else:
            project = None
        if project is None or not project.enabled or not self._store.roles_of(proven.user.id, project.id):
            raise Unauthorized(
                "You have no role in such a project: check its name, or ask an administrator for one."
            )
        return project

    def _own_project(self, user: User) -> Project | None:
        projects = [project for project in self._store.projects_of(user.id) if project.enabled]
        for project in projects:
            if project.id == user.default_project_id:
                return project
        return projects[0] if len(projects) == 1 else None

    def _sweep(self) -> None:
        if self._clock() - self._swept_at > _SWEEP_EVERY_S:
            self._swept_at = self._clock()
            self._store.delete_expired(self._now())


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def _names(reference: Reference, project: Project) -> bool:
    if reference.id is not None:
        return reference.id == project.id
    return reference.in_our_domain and reference.name == project.name


def _name_and_password(authorization: str) -> tuple[str, str]:
    scheme, _, encoded = authorization.partition(" ")
    try:
        text = base64.b64decode(encoded.strip(), validate=True).decode()
    except (binascii.Error, ValueError) as error:
        raise Unauthorized(NOT_AUTHENTICATED) from error
    name, colon, password = text.partition(":")
    # PostgreSQL refuses a NUL in any text.
    if scheme.lower() != "basic" or not colon or "\0" in name:
        raise Unauthorized(NOT_AUTHENTICATED)
    return name, password
