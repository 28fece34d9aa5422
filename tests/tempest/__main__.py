"""Runs trove-tempest-plugin's scenarios against an Argosy of its own: `python -m tests.tempest [REGEX]`.

`make tempest` makes the environment that tempest itself lives in (`.venv-tempest`) and calls this. Which tests pass,
and why the others cannot, is in docs/tempest.md.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import yaml

from argosy.catalog import datastores
from tests.support.server import ROOT, Server, running

TEMPEST = ROOT / ".venv-tempest/bin"
# Why these cannot pass is in docs/tempest.md.
EXCLUDED = r"test_resize|test_instance_upgrade"
NETWORK = "11111111-2222-4333-8444-555555555555"  # only looked at: there are no networks to name


@dataclass(frozen=True)
class Run:
    """The scenarios for one version of a datastore; `suffix` is what their classes call it."""

    datastore: str
    version: str
    suffix: str

    @property
    def regex(self) -> str:
        modules = r"(test_instance_(basic|actions|update_access)|test_backup)"
        return rf"trove_tempest_plugin\.tests\.scenario\.{modules}\.\w+{self.suffix}\."


RUNS = (
    Run("postgresql", "18", "PostgreSQL"),
    Run("postgresql", "17", "PostgreSQL"),
    Run("mariadb", "11.8", "MariaDB"),
    Run("mariadb", "10.11", "MariaDB"),
)


def configuration(argosy: Server, place: Path, run: Run) -> str:
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
enabled_datastores = {run.datastore}
default_datastore_versions = {run.datastore}:{run.version}
flavor_id = 1
resize_flavor_id = 2
shared_network = {NETWORK}
volume_type = local
remove_swift_account = False
rebuild_image_id = {datastores()[run.datastore].version(run.version).id}
database_build_timeout = 300
database_restore_timeout = 300
backup_wait_timeout = 300
"""


def accounts(argosy: Server) -> list[dict[str, object]]:
    return [
        {
            "username": "demo",
            "password": argosy.password("demo"),
            "project_name": "demo",
            "roles": ["member"],
        },
        {
            "username": "admin",
            "password": argosy.password("admin"),
            "project_name": "admin",
            "types": ["admin"],
            "roles": ["admin"],
        },
    ]


def main(*regexes: str) -> int:
    """Every run, or only what `regexes` choose of each; the number of runs in which a test failed."""
    if not (TEMPEST / "tempest").exists():
        sys.exit("There is no .venv-tempest: run make tempest.")
    failed = 0
    with running() as argosy:
        environment = {**os.environ, "HOME": str(argosy.home), "PYTHONPATH": "", "PYTHONWARNINGS": "ignore"}
        for number, run in enumerate(RUNS):
            print(f"== {run.datastore} {run.version}", flush=True)  # noqa: T201 - what tempest says follows
            place = argosy.home / f"tempest-{number}"
            subprocess.run(
                [TEMPEST / "tempest", "init", place], env=environment, check=True, capture_output=True
            )
            (place / "etc/tempest.conf").write_text(configuration(argosy, place, run))
            (place / "accounts.yaml").write_text(yaml.safe_dump(accounts(argosy)))
            chosen: list[str] = [
                word for regex in regexes or ("",) for word in ("--regex", f"{run.regex}.*{regex}")
            ]
            command = [
                str(TEMPEST / "tempest"),
                "run",
                "--concurrency",
                "1",
                *chosen,
                "--exclude-regex",
                EXCLUDED,
            ]
            failed += subprocess.run(command, cwd=place, env=environment, check=False).returncode != 0
        if failed and (keep := os.environ.get("ARGOSY_TEMPEST_LOGS")):
            keep_logs(argosy, Path(keep))
    return failed


def keep_logs(argosy: Server, keep: Path) -> None:
    keep.mkdir(parents=True, exist_ok=True)
    logs = [*argosy.home.glob("tempest-*/*.log"), *(argosy.home / "instances").glob("*/agent.log")]
    for log in (argosy.home / "test.log", *logs):
        (keep / f"{log.parent.name}-{log.name}").write_bytes(log.read_bytes())


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
