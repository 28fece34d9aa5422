"""The samples that Argosy is deployed by: each is one its program takes."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from argosy.settings import ConductorSettings, Settings, read
from tests.support.balancer import configuration

DEPLOY = Path(__file__).parents[2] / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))


def test_the_sample_settings_are_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARGOSY_CONFIG", str(DEPLOY / "argosy.toml"))
    settings = read(tmp_path)
    assert settings.platform == "openstack"
    assert settings.conductor_url == "https://conductor.example.org:8778"
    assert settings.api.drain_s == 3
    _all_known(Settings, tomllib.loads((DEPLOY / "argosy.toml").read_text()), "")


def _all_known(model: type, named: dict[str, object], where: str) -> None:
    """A setting with a typing error would be passed over."""
    for name, value in named.items():
        assert name in model.model_fields, f"{where}{name}"  # type: ignore[attr-defined] # of every model
        if isinstance(value, dict):
            _all_known(model.model_fields[name].annotation, value, f"{where}{name}.")  # type: ignore[attr-defined] # as above


def test_a_passwords_file_is_read_when_it_is_needed(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("p@ss/w:rd\n")
    settings = Settings(
        home=tmp_path, metadata_url="postgresql+psycopg://argosy@db/argosy", metadata_password_file=file
    )
    assert settings.database_url == "postgresql+psycopg://argosy:p%40ss%2Fw%3Ard@db/argosy"
    assert "p@ss" not in repr(settings)


@pytest.mark.parametrize("endpoint", ["conductor", "https://conductor:8778", "a:1,,b:2", "a:1, b"])
def test_a_conductors_endpoint_names_host_and_port(endpoint: str) -> None:
    with pytest.raises(ValueError, match=r"conductor\.endpoint must be HOST:PORT"):
        ConductorSettings(endpoint=endpoint)


def test_guests_are_told_every_conductor(tmp_path: Path) -> None:
    settings = Settings(
        home=tmp_path, conductor=ConductorSettings(endpoint="10.0.0.1:8778, [fd00::2]:8778,c.example.org:443")
    )
    assert settings.conductor_url == "https://10.0.0.1:8778,https://[fd00::2]:8778,https://c.example.org:443"


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_systemd_takes_the_units(unit: Path, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("there is no systemd here")
    text = unit.read_text().replace("/opt/argosy/.venv/bin/argosy", sys.executable)
    (tmp_path / unit.name).write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", str(tmp_path / unit.name)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert unit.name not in done.stderr


def test_haproxy_takes_its_sample(tmp_path: Path) -> None:
    haproxy = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")
    if haproxy is None:
        pytest.skip("there is no haproxy here; the tests of what is deployed bring their own")
    (tmp_path / "haproxy.cfg").write_text(configuration({"10.20.0.10": "127.0.0.1"}))
    done = subprocess.run(
        [haproxy, "-c", "-f", str(tmp_path / "haproxy.cfg")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
