"""Runs trove-tempest-plugin's scenarios against an Argosy of its own: `python -m tests.tempest [REGEX]`.

`make tempest` makes the environment that tempest itself lives in (`.venv-tempest`) and calls this. Which tests pass,
and why the others cannot, is in docs/tempest.md.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import yaml

from tests.support.server import ROOT, Server, running

TEMPEST = ROOT / ".venv-tempest/bin"
SCENARIOS = r"trove_tempest_plugin\.tests\.scenario\.test_instance_(basic|actions|update_access)\..*(PostgreSQL|MariaDB)"
# Asks Nova for the server behind the instance, and there is no Nova.
EXCLUDED = r"test_resize"
DATASTORES = {"postgresql": ("17", "18"), "mariadb": ("10.11", "11.8")}  # upgraded from, and to
# Only looked at: there are no networks and no images to name.
NETWORK = "11111111-2222-4333-8444-555555555555"
IMAGE = "22222222-2222-4333-8444-555555555555"


def configuration(argosy: Server, place: Path) -> str:
    before = ",".join(f"{name}:{old}" for name, (old, _) in DATASTORES.items())
    now = ",".join(f"{name}:{new}" for name, (_, new) in DATASTORES.items())
    return f"""\
[DEFAULT]
log_dir = {place}
log_file = tempest.log
[oslo_concurrency]
lock_path = {place}/locks
[identity]
uri_v3 = {argosy.url}/identity/v3
auth_version = v3
region = RegionOne
v3_endpoint_type = public
admin_role = admin
[auth]
use_dynamic_credentials = False
test_accounts_file = {place}/accounts.yaml
[service_available]
trove = True
neutron = False
nova = False
swift = False
glance = False
cinder = False
[database]
endpoint_type = public
enabled_datastores = {",".join(DATASTORES)}
default_datastore_versions = {now}
pre_upgrade_datastore_versions = {before}
flavor_id = 2
resize_flavor_id = 3
shared_network = {NETWORK}
volume_type = local
remove_swift_account = False
rebuild_image_id = {IMAGE}
database_build_timeout = 300
"""


def accounts(argosy: Server) -> list[dict[str, object]]:
    return [
        {"username": "demo", "password": argosy.password("demo"), "project_name": "demo", "roles": ["member"]},
        {
            "username": "admin",
            "password": argosy.password("admin"),
            "project_name": "admin",
            "types": ["admin"],
            "roles": ["admin"],
        },
    ]


def main(regex: str = SCENARIOS) -> int:
    if not (TEMPEST / "tempest").exists():
        sys.exit("There is no .venv-tempest: run make tempest.")
    with running() as argosy:
        place = argosy.home / "tempest"
        environment = {**os.environ, "HOME": str(argosy.home), "PYTHONPATH": ""}
        subprocess.run([TEMPEST / "tempest", "init", place], env=environment, check=True, capture_output=True)
        (place / "etc/tempest.conf").write_text(configuration(argosy, place))
        (place / "accounts.yaml").write_text(yaml.safe_dump(accounts(argosy)))
        ran = subprocess.run(
            [TEMPEST / "tempest", "run", "--concurrency", "1", "--regex", regex, "--exclude-regex", EXCLUDED],
            cwd=place,
            env=environment,
            check=False,
        )
        if ran.returncode and (keep := os.environ.get("ARGOSY_TEMPEST_LOGS")):
            Path(keep).mkdir(parents=True, exist_ok=True)
            for log in (argosy.home / "test.log", *place.glob("*.log"), *(argosy.home / "instances").glob("*/agent.log")):
                (Path(keep) / f"{log.parent.name}-{log.name}").write_bytes(log.read_bytes())
        return ran.returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
