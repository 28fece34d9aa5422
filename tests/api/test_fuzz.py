"""What the OpenAPI document says holds for whatever is sent."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.api.conftest import Api


@pytest.fixture(scope="module")
def document(api: Api) -> dict[str, Any]:
    answer = httpx.get(f"{api.server.url}/openapi.json")
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


def test_every_route_states_its_failures(document: dict[str, Any]) -> None:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if path.startswith("/v1.0/"):
                assert {"401", "403", "500"} <= set(operation["responses"]), f"{method} {path}"
