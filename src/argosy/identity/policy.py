"""Who may do what: oslo.policy over our rules, with the operator's `policy.yaml` on top."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from oslo_config import cfg
from oslo_policy import policy as oslo

from argosy.domain.errors import Failed, Forbidden
from argosy.domain.identity import Caller
from argosy.identity.rules import DEFAULTS

_log = logging.getLogger(__name__)
_CALLS_OUT = re.compile(r"(?:^|[\s(\[])https?:")
_DECISIONS = 10_000


class PolicyBroken(Failed):
    """The operator's policy file cannot be used; the sentence says where it is wrong."""

    code = "policy-broken"


@dataclass(frozen=True)
class _Loaded:
    """One reading of the file, and the decisions made under it. Without an enforcer everything is refused."""

    stamp: tuple[int, int, int] | None
    enforcer: oslo.Enforcer | None
    decisions: dict[Any, bool] = field(default_factory=dict)


class Policy:
    """Decides by the built-in rules and the operator's file, which is read again when it changes.

    A broken file stops the start with PolicyBroken. When it breaks later, nobody may do anything until it is
    mended, since nobody can know what it was meant to close; the log says what is wrong with it.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._lock = threading.Lock()
        stamp = self._stamp()
        self._loaded = _Loaded(stamp, self._load())

    def allow(self, caller: Caller, rule: str, target: Mapping[str, Hashable]) -> None:
        """Raises Forbidden, naming the rule, unless the caller may.

        `target` is what is acted on, with its `project_id`; for a list, the project listed. Raises LookupError for
        a rule that does not exist.
        """
        if not self.allows(caller, rule, target):
            raise Forbidden(
                f"Policy doesn't allow {rule} to be performed: ask for a role that may, or an administrator."
            )

    def allows(self, caller: Caller, rule: str, target: Mapping[str, Hashable]) -> bool:
        loaded = self._loaded if self._loaded.stamp == self._stamp() else self._reload()
        # A decision follows from these three alone, as no rule may ask anybody else.
        key = (caller, rule, *target.items())
        decided = loaded.decisions.get(key)
        if decided is None:
            decided = self._decide(loaded.enforcer, caller, rule, target)
            if len(loaded.decisions) >= _DECISIONS:
                loaded.decisions.clear()
            loaded.decisions[key] = decided
        return decided

    def _decide(
        self, enforcer: oslo.Enforcer | None, caller: Caller, rule: str, target: Mapping[str, Hashable]
    ) -> bool:
        if rule not in DEFAULTS:
            raise LookupError(f"There is no policy rule {rule!r}.")
        if enforcer is None:
            return False
        # `tenant` is what rules written for Trove call the project.
        who = {
            "user_id": caller.user_id,
            "user_name": caller.user_name,
            "user_domain_id": caller.user_domain_id,
            "project_domain_id": caller.project_domain_id,
            "project_id": caller.project_id,
            "tenant": caller.project_id,
            "project_name": caller.project_name,
            "roles": sorted(caller.roles),
            "is_admin": caller.is_admin,
        }
        what = dict(target)
        what.setdefault("tenant", what.get("project_id"))
        return bool(enforcer.enforce(rule, what, who))

    def _stamp(self) -> tuple[int, int, int] | None:
        if self._path is None:
            return None
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino

    def _reload(self) -> _Loaded:
        with self._lock:
            stamp = self._stamp()
            if stamp == self._loaded.stamp:
                return self._loaded
            try:
                enforcer = self._load()
            except PolicyBroken as error:
                _log.error("every request is refused until the policy file is mended: %s", error.sentence)
                self._loaded = _Loaded(stamp, None)
            else:
                _log.info("policy read again from %s", self._path)
                self._loaded = _Loaded(stamp, enforcer)
            return self._loaded

    def _load(self) -> oslo.Enforcer:
        overrides = _read(self._path)
        enforcer = oslo.Enforcer(cfg.ConfigOpts(), use_conf=False)
        enforcer.set_rules(oslo.Rules.from_dict({**DEFAULTS, **overrides}))
        for name, text in overrides.items():
            # oslo.policy turns what it cannot parse into "never", whole or in part, and only logs it.
            if "!" in str(enforcer.rules[name]) and "!" not in text:
                raise PolicyBroken(f"{self._path}: rule {name!r} cannot be understood: {text!r}.")
        try:
            enforcer.check_rules(raise_on_violation=True)
        except oslo.InvalidDefinitionError as error:
            raise PolicyBroken(
                f"{self._path}: a rule refers to itself, or to one that is not there: {error}."
            ) from error
        return enforcer


def _read(path: Path | None) -> dict[str, str]:
    if path is None:
        return {}
    try:
        parsed = oslo.parse_file_contents(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise PolicyBroken(f"{path} cannot be read: {error}.") from error
    if not isinstance(parsed, dict):
        raise PolicyBroken(f"{path} must be a mapping of rule names to rules.")
    used = " ".join(str(text) for text in parsed.values())
    for name, text in parsed.items():
        if not isinstance(name, str) or not isinstance(text, str):
            raise PolicyBroken(
                f"{path}: rule {name!r} must be text; quote it, and write '@' for always, '!' for never."
            )
        if name not in DEFAULTS and f"rule:{name}" not in used:
            raise PolicyBroken(f"{path}: there is no rule {name!r}, and no other rule refers to it.")
        if _CALLS_OUT.search(text):
            raise PolicyBroken(
                f"{path}: rule {name!r} asks another server, which Argosy's policy does not do."
            )
    return parsed
