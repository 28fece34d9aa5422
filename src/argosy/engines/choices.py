"""What an instance's owner chose for its database server, beyond its size.

The agent keeps it in `etc/choices.json`, and each engine's configuration takes it in whenever it is written, so
it outlives restarts of both and any rebuilding of the server. It holds no secret.
"""

from __future__ import annotations

import json
import threading
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from argosy.engines.host import Host

_changing = threading.Lock()


@dataclass(frozen=True)
class Choices:
    """`parameters` are those of the configuration group, `logs` the names of the logs that are switched on.

    Without `allowed_cidrs` clients may come from anywhere; with `require_tls` they must use TLS.
    """

    parameters: dict[str, str] = field(default_factory=dict)
    logs: tuple[str, ...] = ()
    allowed_cidrs: tuple[str, ...] = ()
    require_tls: bool = False


def read(host: Host) -> Choices:
    """What was chosen last; nothing, when nothing ever was. Keys of a newer release are left out."""
    try:
        stored: dict[str, Any] = json.loads(_file(host).read_text())
    except FileNotFoundError:
        return Choices()
    known: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in stored.items()
        if key in Choices.__dataclass_fields__
    }
    return Choices(**known)


def write(host: Host, choices: Choices) -> None:
    host.write_file(_file(host), json.dumps(asdict(choices), indent=1), as_agent=True)


def change(host: Host, **chosen: Any) -> None:
    """Choose these anew, by the names of their fields; what is chosen of the others at the same time is kept."""
    with _changing:
        write(host, replace(read(host), **chosen))


def _file(host: Host) -> Path:
    return host.etc / "choices.json"
