"""What settings have to say, and what is said of those that are wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from argosy.domain.errors import Invalid
from argosy.settings import read


def test_keystone_needs_an_address_a_user_and_a_password(tmp_path: Path) -> None:
    file = tmp_path / "argosy.toml"
    file.write_text('identity = "keystone"\n[keystone]\nauth_url = "http://keystone"\nusername = "argosy"\n')
    with pytest.raises(Invalid, match="auth_url, username and password_file must be given"):
        read(tmp_path)
    file.write_text(file.read_text() + 'password_file = "/etc/argosy/password"\n')
    assert read(tmp_path).keystone.cache_s == 30


@pytest.mark.parametrize("setting", ["cache_s = -1", "timeout_s = 0", 'interface = "outside"'])
def test_settings_out_of_their_bounds_are_named(tmp_path: Path, setting: str) -> None:
    (tmp_path / "argosy.toml").write_text(f"[keystone]\n{setting}\n")
    with pytest.raises(Invalid, match=f"keystone.{setting.partition(' ')[0]}"):
        read(tmp_path)


def test_all_that_is_wrong_is_told_at_once_and_no_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "argosy.toml").write_text('[openstack]\nsurvey_every_s = 1\n[quotas]\nram = "hunter2"\n')
    monkeypatch.setenv("ARGOSY_KEYSTONE__CACHE_S", "hunter2")
    with pytest.raises(Invalid) as told:
        read(tmp_path)
    for word in (
        "argosy.toml",
        "openstack.survey_every_s",
        "or equal to 5",
        "quotas.ram",
        "keystone.cache_s",
    ):
        assert word in told.value.sentence
    assert "hunter2" not in told.value.sentence
    assert "pydantic" not in told.value.sentence


def test_a_file_that_is_no_toml_is_told_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "argosy.toml").write_text("openstack = [\n")
    with pytest.raises(Invalid, match=r"argosy\.toml is no TOML"):
        read(tmp_path)
