"""What has to be said for a Keystone to know the users."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from argosy.settings import Settings


def test_keystone_needs_an_address_a_user_and_a_password(tmp_path: Path) -> None:
    file = tmp_path / "argosy.toml"
    file.write_text('identity = "keystone"\n[keystone]\nauth_url = "http://keystone"\nusername = "argosy"\n')
    with pytest.raises(ValidationError, match="auth_url, username and password_file must be given"):
        Settings(home=tmp_path)
    file.write_text(file.read_text() + 'password_file = "/etc/argosy/password"\n')
    assert Settings(home=tmp_path).keystone.cache_s == 30


@pytest.mark.parametrize("setting", ["cache_s = -1", "timeout_s = 0", 'interface = "outside"'])
def test_settings_out_of_their_bounds_are_named(tmp_path: Path, setting: str) -> None:
    (tmp_path / "argosy.toml").write_text(f"[keystone]\n{setting}\n")
    with pytest.raises(ValidationError, match=f"keystone.{setting.partition(' ')[0]}"):
        Settings(home=tmp_path)
