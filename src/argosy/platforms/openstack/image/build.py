"""Building an image, from the packages to the disk."""

from __future__ import annotations

import io
import os
import tarfile
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

from argosy.domain.datastore import Version
from argosy.domain.errors import Invalid
from argosy.platforms.local import debian
from argosy.platforms.local.images import LocalImages
from argosy.platforms.openstack.image import boot, disk, environment, facts, packages, root, software, tools
from argosy.platforms.openstack.image.packages import PackageList
from argosy.platforms.openstack.image.software import Software
from argosy.platforms.openstack.image.tools import Say

_AGENT = Path("opt/argosy/agent")


@dataclass(frozen=True)
class AgentCode:
    """The agent's code of this release: its digest, and a tar of the files in `argosy/`."""

    digest: str
    packed: bytes


@dataclass(frozen=True)
class Request:
    """What an image is to be. Without a package list the newest packages are taken, or those of a snapshot."""

    versions: Sequence[Version]
    output: Path
    kind: str = "qcow2"
    size_gb: int = 2
    ssh_key: str | None = None
    snapshot: str | None = None
    package_list: PackageList | None = None
    kernel_options: Sequence[str] = ()


@dataclass(frozen=True)
class Built:
    """An image as files: itself, and beside it what it is made of and what it is booted by."""

    image: Path
    kernel: Path
    initrd: Path
    options: str
    facts: Path
    package_list: Path
    sbom: Path
    tree: str
    software: tuple[Software, ...]
    kind: str
    size_gb: int


def build(
    request: Request, images: LocalImages, agent: AgentCode, *, cache: Path, mirror: str | None, say: Say
) -> Built:
    """Raises ImageUnavailable, OutOfSpace or Invalid."""
    used = [software.ready(images, version, say) for version in request.versions]
    source = _source(request, cache, mirror)
    listed = request.package_list or _resolved(request, source, say)
    epoch = int(
        os.environ.get("SOURCE_DATE_EPOCH")
        or datetime.combine(listed.day, datetime.min.time(), UTC).timestamp()
    )
    request.output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="argosy-image-", dir=tools.work_place()) as place:
        work = Path(place)
        work.chmod(0o755)
        tree = work / "root"
        system, kernel = listed.of("debian"), listed.of("kernel")
        if len(kernel) != 1:
            raise Invalid("A package list must name one kernel.")
        say(f"installing {len(system)} packages")
        root.install(tree, system, lambda: source.fetch(system, say), cache / "systems")
        say("adding the agent and its environment")
        wheels = environment.lay(tree, listed.of("wheel"), work)
        listed = PackageList(listed.day, (*system, *kernel, *wheels))
        code = _lay_agent(tree, agent)
        for each in used:
            say(f"adding {each.version.datastore} {each.version.name}")
            software.lay(each, tree, (root.UID, root.GID))
        root.settle(tree, code, ssh_key=request.ssh_key)
        (tree / "etc/argosy/image.json").write_text(facts.for_the_agent(used, agent.digest))
        environment.compile_all(tree)
        booting = boot.lay(tree, source.fetch(kernel, say)[0], list(request.kernel_options))
        root.clean(tree, listed.day, epoch)
        digest = disk.tree_digest(tree)
        say("writing the disk")
        disk.make(tree, request.output, size_gb=request.size_gb, kind=request.kind, work=work)
        return _beside(request, booting, used, agent, listed, digest)


def _beside(
    request: Request,
    booting: boot.Boot,
    used: list[Software],
    agent: AgentCode,
    listed: PackageList,
    tree: str,
) -> Built:
    from argosy.platforms.openstack.image import sbom

    output = request.output
    kernel, initrd = boot.copy_out(booting, output)
    beside = {
        name: output.with_name(f"{output.name}.{name}") for name in ("facts.json", "packages", "spdx.json")
    }
    told = facts.for_the_control_plane(
        used, agent.digest, listed, tree=tree, image=debian.checksum(output), kernel=booting.version
    )
    beside["facts.json"].write_text(told, encoding="utf-8")
    beside["packages"].write_text(listed.text(), encoding="utf-8")
    beside["spdx.json"].write_text(
        sbom.document(output.name, listed, used, agent.digest, tree), encoding="utf-8"
    )
    return Built(
        output,
        kernel,
        initrd,
        booting.options,
        beside["facts.json"],
        beside["packages"],
        beside["spdx.json"],
        tree,
        tuple(used),
        request.kind,
        request.size_gb,
    )


def _source(request: Request, cache: Path, mirror: str | None) -> packages.Source:
    if request.snapshot is not None:
        return packages.Source(cache, packages.snapshot(request.snapshot), old=True)
    return packages.Source(cache, debian.mirror_at(mirror) if mirror else debian.host_mirror())


def _resolved(request: Request, source: packages.Source, say: Say) -> PackageList:
    say("choosing packages")
    names = [*packages.SYSTEM, *(packages.FOR_SSH if request.ssh_key is not None else ())]
    day = packages.moment(request.snapshot) if request.snapshot else _today()
    return PackageList(day, tuple(source.resolve(names)))


def _today() -> date:
    return datetime.fromtimestamp(time.time(), UTC).date()


def _lay_agent(tree: Path, agent: AgentCode) -> Path:
    """Put the code where the machine has it; returns the place of the agent's own package."""
    place = tree / _AGENT / agent.digest
    with tarfile.open(fileobj=io.BytesIO(agent.packed)) as tar:
        tar.extractall(place, filter="data")
    (tree / _AGENT / "current").symlink_to(agent.digest)
    return place / "argosy/agent"
