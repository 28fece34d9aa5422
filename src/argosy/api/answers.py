"""JSON as every answer of ours is written, failures too."""

from __future__ import annotations

import json
from typing import Any

from starlette.responses import Response

# ASCII only: text from a client may hold what cannot be written as UTF-8.
_encode = json.JSONEncoder(separators=(",", ":")).encode


class Json(Response):
    """An answer of dicts, lists, text, numbers, true, false and null."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return _encode(content).encode("ascii")
