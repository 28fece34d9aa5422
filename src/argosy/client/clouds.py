"""Which server to talk to, and as whom: clouds.yaml and OS_* as OpenStack's clients read them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from argosy.client.errors import NotConfigured


@dataclass(frozen=True)
class Cloud:
    """A server and what to log in with. `verify` is for its certificate: a CA file, or False not to look.

    `auth` has Keystone's words: username, password, project_name, application_credential_id and so on.
    """

    name: str
    auth_url: str
    auth: Mapping[str, str] = field(repr=False)
    region: str | None = None
    interface: str = "public"
    verify: bool | str = True
    file: Path | None = None


def files() -> list[Path]:
    """Where clouds are looked up, first of all the file that OS_CLIENT_CONFIG_FILE names."""
    named = os.environ.get("OS_CLIENT_CONFIG_FILE")
    usual = [
        Path("clouds.yaml"),
        Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "openstack/clouds.yaml",
        Path("/etc/openstack/clouds.yaml"),
    ]
    return [Path(named), *usual] if named else usual


def named(name: str, places: Sequence[Path] = ()) -> Cloud:
    """The cloud of this name from the first file that has it; the usual files when none are given.

    Raises NotConfigured.
    """
    looked = list(places) or files()
    for file in looked:
        described = _clouds(file).get(name)
        if isinstance(described, dict):
            return _cloud(name, described, file)
    raise NotConfigured(f"No cloud is named {name!r} in {', '.join(map(str, looked))}.")


def from_environment() -> Cloud | None:
    """OS_AUTH_URL and its companions, None when it is not set."""
    if not os.environ.get("OS_AUTH_URL"):
        return None
    words = {
        key.removeprefix("OS_").lower(): value
        for key, value in os.environ.items()
        if key.startswith("OS_") and value
    }
    insecure = words.get("insecure", "").lower() in {"1", "true", "yes"}
    verify: bool | str = False if insecure else words.get("cacert", True)
    interface = words.get("interface") or words.get("endpoint_type") or "public"
    return Cloud(
        "environment",
        words["auth_url"],
        words,
        words.get("region_name"),
        interface.removesuffix("URL"),
        verify,
    )


def _cloud(name: str, described: dict[str, Any], file: Path) -> Cloud:
    auth = described.get("auth")
    if not isinstance(auth, dict) or not auth.get("auth_url"):
        raise NotConfigured(f"{file}: the cloud {name!r} has no auth.auth_url.")
    words = {key: str(value) for key, value in auth.items() if value is not None}
    verify: bool | str = described.get("cacert") or True
    if described.get("verify") is False or described.get("insecure") is True:
        verify = False
    region = described.get("region_name")
    return Cloud(
        name,
        words["auth_url"],
        words,
        None if region is None else str(region),
        str(described.get("interface") or "public").removesuffix("URL"),
        verify,
        file,
    )


def _clouds(file: Path) -> dict[str, Any]:
    """The file's clouds with the secrets that a secure.yaml beside it adds; none when it does not exist."""
    clouds = _read(file)
    for name, secret in _read(file.with_name("secure.yaml")).items():
        if isinstance(secret, dict) and isinstance(clouds.get(name), dict):
            auth = {**(clouds[name].get("auth") or {}), **(secret.get("auth") or {})}
            clouds[name] = {**clouds[name], **secret, "auth": auth}
    return clouds


def _read(file: Path) -> dict[str, Any]:
    try:
        stored = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise NotConfigured(f"{file} cannot be read: {getattr(error, 'strerror', None) or error}.") from error
    except yaml.YAMLError as error:
        # Not the error itself: it quotes the line, which may hold a password.
        raise NotConfigured(f"{file} is not YAML.") from error
    clouds = stored.get("clouds") if isinstance(stored, dict) else None
    return dict(clouds) if isinstance(clouds, dict) else {}
