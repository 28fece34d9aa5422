"""Parameters: as CONFIG GET tells of them, and CONFIG SET."""

from __future__ import annotations

from collections.abc import Mapping

from argosy.domain.errors import Invalid
from argosy.domain.parameters import Effective, Parameter
from argosy.engines.layers import Layered
from argosy.engines.valkey import configuration
from argosy.engines.valkey.client import Client, Refused


class ValkeyParameters(Layered):
    """The configuration file is for the next start; what can be is set in the running server as well."""

    client: Client

    def read_parameters(self) -> list[Parameter]:
        raise NotImplementedError

    def effective_parameters(self) -> list[Effective]:
        raise NotImplementedError

    def change(self, wanted: Mapping[str, str | None]) -> set[str]:
        waiting = {name for name, value in wanted.items() if value is None}
        changes = {name: value for name, value in wanted.items() if value is not None}
        while changes:
            words = [word for name, value in changes.items() for word in (name, value)]
            try:
                # All or nothing, says the manual (CONFIG SET, since 7.0).
                self.client.call("CONFIG", "SET", *words)
            except Refused as refusal:
                immutable = _immutable(refusal, changes)
                if immutable is None:
                    raise Invalid(refusal.sentence) from refusal
                waiting.add(immutable)
                del changes[immutable]
            else:
                break
        self.host.write_file(self.host.etc / "server.conf", configuration.text(self.layers()))
        return waiting


def _immutable(refusal: Refused, changes: Mapping[str, str]) -> str | None:
    """The one that the server takes at its start only, if that was its reason.

    ERR CONFIG SET failed (possibly related to argument 'databases') - can't set immutable config
    """
    if "can't set immutable config" not in refusal.reply:
        return None
    return next((name for name in changes if f"'{name}'" in refusal.reply), None)
