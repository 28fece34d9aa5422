"""A backup's label says nothing without its key, and is believed only as it was written."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from argosy.domain.errors import BackupUnusable
from argosy.storage.labels import Label

KEY = os.urandom(32)
LABEL = Label(
    "11111111-2222-4333-8444-555555555555", "project", "nightly", "shop", "mariadb", "11.8",
    service={"tags": {"team": "the web team"}},
)  # fmt: skip


def test_a_label_is_read_by_who_has_its_key() -> None:
    content = LABEL.sealed(KEY)
    assert Label.opened(content, KEY) == LABEL
    assert set(json.loads(content)) == {"format", "id", "sealed"}
    # Base64 has no spaces, so that chance does not write it.
    assert b"the web team" not in content
    with pytest.raises(BackupUnusable, match="damaged"):
        Label.opened(content, os.urandom(32))


def _with(**values: Any) -> Callable[[bytes], bytes]:
    return lambda content: json.dumps({**json.loads(content), **values}).encode()


@pytest.mark.parametrize(
    "harm",
    [
        lambda content: content[:-9],
        lambda _: b"[]",
        lambda _: b"{}",
        _with(id="another"),
        _with(sealed="AAAA"),
        _with(sealed="ä"),
        _with(sealed=5),
        _with(format="argosy-label/9"),
    ],
)
def test_a_label_that_was_changed_is_refused(harm: Callable[[bytes], bytes]) -> None:
    with pytest.raises(BackupUnusable):
        Label.opened(harm(LABEL.sealed(KEY)), KEY)


@pytest.mark.parametrize(
    "wrong", [{"version": 5}, {"service": []}, {"volume_gb": "2"}, {"parent_id": 1}, {"instance_name": {}}]
)
def test_a_label_with_nonsense_in_it_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(BackupUnusable):
        Label.opened(replace(LABEL, **wrong).sealed(KEY), KEY)
