"""JSON as every answer of ours is written, failures too."""

from __future__ import annotations

import json
from typing import Any

from pydantic_core import PydanticSerializationError, to_json
from starlette.responses import Response


class Json(Response):
    """An answer of dicts, lists, text, numbers, true, false and null."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        try:
            return to_json(content)
        except PydanticSerializationError:
            # Text that cannot be written as UTF-8, a database's name for one, is escaped.
            return json.dumps(content).encode("ascii")
