"""What clients may send. Attributes that are not named here are ignored, as Keystone ignores its extras."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Field, SecretStr, StrictBool, StringConstraints

from argosy.domain.identity import DOMAIN_ID
from argosy.identity import CredentialProof, PasswordProof, Proof, Reference, Scope, TokenProof


def _without_nul(text: str) -> str:
    if "\0" in text:
        problem = "must not hold a NUL character"  # PostgreSQL refuses it in any text
        raise ValueError(problem)
    return text


def _ours(domain_id: str | None) -> str | None:
    if domain_id not in {None, DOMAIN_ID}:
        problem = f"there is no domain but {DOMAIN_ID!r}"
        raise ValueError(problem)
    return domain_id


def _aware(at: datetime) -> datetime:
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


Text = Annotated[str, StringConstraints(max_length=4096), AfterValidator(_without_nul)]
Name = Annotated[
    str, StringConstraints(min_length=1, max_length=255, strip_whitespace=True), AfterValidator(_without_nul)
]
ProjectName = Annotated[Name, StringConstraints(max_length=64)]
Secret = Annotated[SecretStr, Field(max_length=1024)]
Domain = Annotated[Text | None, AfterValidator(_ours)]


class DomainBody(BaseModel):
    id: Text | None = None
    name: Text | None = None


class ReferenceBody(BaseModel):
    id: Text | None = None
    name: Text | None = None
    domain: DomainBody | None = None

    def reference(self) -> Reference:
        domain = self.domain or DomainBody()
        return Reference(self.id, self.name, domain.id, domain.name)


class UserWithPassword(ReferenceBody):
    password: Secret


class PasswordBody(BaseModel):
    user: UserWithPassword


class TokenBody(BaseModel):
    id: Secret


class CredentialBody(BaseModel):
    id: Text | None = None
    name: Text | None = None
    user: ReferenceBody | None = None
    secret: Secret


class IdentityBody(BaseModel):
    methods: list[str] = Field(min_length=1, max_length=8)
    password: PasswordBody | None = None
    token: TokenBody | None = None
    application_credential: CredentialBody | None = None

    def proof(self) -> Proof | None:
        """None for a way to log in that we do not have."""
        if self.methods == ["password"] and self.password is not None:
            user = self.password.user
            return PasswordProof(user.reference(), user.password.get_secret_value())
        if self.methods == ["token"] and self.token is not None:
            return TokenProof(self.token.id.get_secret_value())
        if self.methods == ["application_credential"] and self.application_credential is not None:
            sent = self.application_credential
            user_named = None if sent.user is None else sent.user.reference()
            return CredentialProof(Reference(sent.id, sent.name), user_named, sent.secret.get_secret_value())
        return None


class ScopeBody(BaseModel):
    project: ReferenceBody | None = None
    unscoped: dict[str, Any] | None = None


class Auth(BaseModel):
    identity: IdentityBody
    scope: Literal["unscoped"] | ScopeBody | None = None


class AuthRequest(BaseModel):
    auth: Auth

    def scope(self) -> Scope:
        """A scope to a domain or to the system, which we do not have, becomes a project nobody can have."""
        scope = self.auth.scope
        if not isinstance(scope, ScopeBody):
            return scope
        if scope.project is not None:
            return scope.project.reference()
        return Reference() if scope.unscoped is None else "unscoped"


class OldPassword(BaseModel):
    username: Text
    password: Secret


class OldAuth(BaseModel):
    password: OldPassword = Field(alias="passwordCredentials")
    project_name: Text | None = Field(default=None, alias="tenantName")
    project_id: Text | None = Field(default=None, alias="tenantId")


class OldAuthRequest(BaseModel):
    """A login in the words of Keystone's v2.0, which troveclient still speaks when it is given no session."""

    auth: OldAuth

    def proof(self) -> PasswordProof:
        return PasswordProof(
            Reference(name=self.auth.password.username), self.auth.password.password.get_secret_value()
        )

    def scope(self) -> Scope:
        if self.auth.project_id is not None or self.auth.project_name is not None:
            return Reference(self.auth.project_id, self.auth.project_name)
        return None


class ProjectFields(BaseModel):
    name: ProjectName | None = None
    description: Text | None = None
    enabled: StrictBool | None = None
    domain_id: Domain = None


class NewProjectFields(ProjectFields):
    name: ProjectName
    is_domain: Literal[False] | None = None
    tags: Annotated[list[str], Field(max_length=0)] | None = None


class NewProject(BaseModel):
    project: NewProjectFields


class ProjectChange(BaseModel):
    project: ProjectFields


class UserFields(BaseModel):
    name: Name | None = None
    password: Secret | None = None
    email: Annotated[Text, StringConstraints(max_length=255)] | None = None
    description: Text | None = None
    default_project_id: Text | None = None
    enabled: StrictBool | None = None
    domain_id: Domain = None


class NewUserFields(UserFields):
    name: Name


class NewUser(BaseModel):
    user: NewUserFields


class UserChange(BaseModel):
    user: UserFields


class PasswordChangeFields(BaseModel):
    original_password: Secret
    password: Secret


class PasswordChange(BaseModel):
    user: PasswordChangeFields


class RoleFields(BaseModel):
    name: Name | None = None
    description: Text | None = None


class NewRoleFields(RoleFields):
    name: Name
    domain_id: None = None


class NewRole(BaseModel):
    role: NewRoleFields


class RoleChange(BaseModel):
    role: RoleFields


class RoleReference(BaseModel):
    id: Text | None = None
    name: Text | None = None


class NewCredentialFields(BaseModel):
    name: Name
    description: Text | None = None
    secret: Secret | None = None
    expires_at: Annotated[datetime, AfterValidator(_aware)] | None = None
    roles: Annotated[list[RoleReference], Field(max_length=64)] | None = None
    unrestricted: StrictBool | None = None
    # Rules of access are refused rather than forgotten: they would narrow what the credential may do.
    access_rules: Annotated[list[Any], Field(max_length=0)] | None = None


class NewCredential(BaseModel):
    application_credential: NewCredentialFields
