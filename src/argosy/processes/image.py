"""`python -m argosy.processes.image build`: make the image that machines boot from; `argosy image build` runs this."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from argosy import catalog
from argosy import settings as configuration
from argosy.domain.errors import ArgosyError, Invalid
from argosy.platforms.openstack.cloud import Cloud, Service
from argosy.platforms.openstack.image import packages, tools, words
from argosy.platforms.openstack.image.build import AgentCode, Built, Request, build
from argosy.platforms.openstack.image.packages import PackageList
from argosy.platforms.openstack.image.register import register
from argosy.rpc import agent_code
from argosy.settings import Settings

_UPLOAD_S = 1800.0
_CACHE = Path("/var/cache/argosy/images")


def main() -> int:
    arguments = argparse.ArgumentParser(prog="argosy image", description=__doc__)
    commands = arguments.add_subparsers(dest="command", required=True)
    asked = commands.add_parser("build", help="build an image")
    asked.add_argument("words", nargs="+", metavar="DATASTORE VERSION...")
    asked.add_argument("--output", type=Path)
    asked.add_argument("--format", choices=("qcow2", "raw"), default="qcow2")
    asked.add_argument("--size-gb", type=int, default=2)
    asked.add_argument("--ssh-key", type=Path)
    asked.add_argument("--snapshot")
    asked.add_argument("--package-list", type=Path)
    asked.add_argument("--kernel-option", action="append", default=[])
    asked.add_argument("--install-missing", action="store_true")
    asked.add_argument("--register", action="store_true")
    asked.add_argument("--name")
    asked.add_argument("--direct-kernel", action=argparse.BooleanOptionalAction, default=True)
    asked.add_argument("--cloud")
    asked.add_argument("--home", type=Path, default=configuration.default_home())
    given = arguments.parse_args()
    try:
        settings = configuration.read(given.home.absolute())
        if given.output is not None:
            return _build(given, given.output.absolute(), settings)
        if not given.register:
            raise Invalid("Say where the image goes by --output FILE, or that Glance gets it by --register.")
        with tempfile.TemporaryDirectory(prefix="argosy-image-", dir=tools.work_place()) as place:
            return _build(given, Path(place, f"image.{given.format}"), settings)
    except (ArgosyError, OSError, subprocess.SubprocessError) as error:
        print(f"argosy: {error}", file=sys.stderr)  # noqa: T201 - its output
        return 1


def _build(given: argparse.Namespace, output: Path, settings: Settings) -> int:
    from argosy.processes.control_plane import local_images

    request = _request(given, output)
    _CACHE.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()

    def say(what: str) -> None:
        print(f"[{time.monotonic() - began:4.0f} s] {what}", file=sys.stderr, flush=True)  # noqa: T201 - its output

    cloud = _cloud(given, settings) if given.register else None
    tools.check(install=given.install_missing, say=say)
    code = AgentCode(agent_code.digest(), agent_code.pack())
    built = build(
        request,
        local_images(settings),
        code,
        cache=_CACHE,
        mirror=settings.local.debian_mirror,
        say=say,
    )
    told = _told(built, kept=given.output is not None)
    if cloud is not None:
        name = given.name or "-".join(
            ["argosy", *(f"{each.datastore}-{each.name}" for each in request.versions)]
        )
        registered = register(cloud, built, name=name, direct_kernel=given.direct_kernel, say=say)
        told |= {"name": name, "id": registered.image_id, "older": list(registered.older)}
        cloud.close()
    print(json.dumps(told))  # noqa: T201 - its output
    return 0


def _cloud(given: argparse.Namespace, settings: Settings) -> Cloud:
    """Where to register; found out before the work is done. Raises Invalid, PlatformError or Unavailable."""
    name = given.cloud or settings.openstack.cloud
    if not name:
        raise Invalid(
            "Say which cloud to register the image with: --cloud NAME, or openstack.cloud in argosy.toml."
        )
    cloud = Cloud(name, settings.openstack.clouds_file, request_timeout_s=_UPLOAD_S)
    cloud.ask(Service.KEYSTONE, lambda connection: connection.current_project_id)
    return cloud


def _request(given: argparse.Namespace, output: Path) -> Request:
    """Raises Invalid."""
    if given.snapshot and given.package_list:
        raise Invalid("Give --snapshot or --package-list, not both: each says which packages there are.")
    request = Request(
        versions=words.versions(given.words, catalog.files()),
        output=output,
        kind=given.format,
        size_gb=given.size_gb,
        snapshot=given.snapshot,
        kernel_options=given.kernel_option,
    )
    if given.snapshot:
        packages.snapshot(given.snapshot)
    if not 1 <= given.size_gb <= 64:
        raise Invalid(f"--size-gb must be from 1 to 64, not {given.size_gb}.")
    if given.ssh_key:
        request = replace(request, ssh_key=_public_key(given.ssh_key))
    if given.package_list:
        request = replace(request, package_list=PackageList.read(given.package_list))
    return request


def _public_key(file: Path) -> str:
    lines = [
        line for line in file.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")
    ]
    if not lines or not all(line.split()[0].startswith(("ssh-", "ecdsa-", "sk-")) for line in lines):
        raise Invalid(f"{file} must hold public SSH keys, one a line.")
    return "\n".join(lines)


def _told(built: Built, *, kept: bool) -> dict[str, Any]:
    """Files are named when they stay."""
    files = {
        "image": str(built.image),
        "facts": str(built.facts),
        "sbom": str(built.sbom),
        "package_list": str(built.package_list),
        "kernel": str(built.kernel),
        "initrd": str(built.initrd),
    }
    return {
        **(files if kept else {}),
        "tree": built.tree,
        "kernel_options": built.options,
        "software": [f"{each.version.datastore} {each.version.name}" for each in built.software],
    }


if __name__ == "__main__":
    sys.exit(main())
