"""A create on a real cloud, split into what the cloud takes and what Argosy takes. Named by ARGOSY_TEST_CLOUD.

From outside: who watches asks Nova, Cinder and the agent's port over and over while the instance is made. The cloud's
share is the volume until it is available, the server from when Nova knows it until it is ACTIVE, and its boot until its
agent listens. All the rest is ours.
"""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass
from typing import Any

from argosy.domain.guest import RPC_PORT
from bench import report
from bench.figures import Figures, table
from bench.memory import Held, read, sizes
from tests.support.machines import Cloud, running_on
from tests.support.server import Client, Server

ROUNDS = 3
LOOK_EVERY_S = 0.1
OURS_AIM_S = 5.0
PLAIN_IMAGE, PLAIN_IS_UP = "debian-12", "GUEST-READY"  # of ../shared/openstack/build-image.sh
BOOT_AIM_S = 10.0
PARTS = ("conductor", "taskmanager", "api")


@dataclass(frozen=True)
class Timeline:
    """Seconds from the request; each when it was first seen."""

    volume: float
    volume_available: float
    server: float
    server_active: float
    agent: float
    ready: float

    @property
    def cloud(self) -> dict[str, float]:
        return {
            "volume available": self.volume_available - self.volume,
            "server ACTIVE": self.server_active - self.server,
            "boot until the agent listens": self.agent - self.server_active,
        }

    @property
    def ours(self) -> float:
        return self.ready - sum(self.cloud.values())


def measure(*, quick: bool = False) -> tuple[str, str]:
    """The section of the report."""
    began = report.when()
    cloud = Cloud.real()
    with running_on(cloud, *PARTS) as argosy:
        demo = argosy.client("demo")
        kinds = {"PostgreSQL 17": ("postgresql", "17"), "MariaDB 11.8": ("mariadb", "11.8")}
        lines = {
            name: [_create(cloud, argosy, demo, *kind) for _ in range(1 if quick else ROUNDS)]
            for name, kind in kinds.items()
        }
        plain = [_plain_boot(cloud) for _ in range(1 if quick else ROUNDS)]
        held = read({part: [_pid(argosy, part)] for part in PARTS})
    return "On a cloud", "\n\n".join([began, *_told(lines, plain, held)])


def _create(cloud: Cloud, argosy: Server, demo: Client, datastore: str, version: str) -> Timeline:
    connection = cloud.connect()
    flavors = demo.get("/flavors").json()["flavors"]
    body = {
        "name": f"bench-{datastore}",
        "flavorRef": next(str(one["id"]) for one in flavors if one["name"] == "db.tiny"),
        "volume": {"size": 1},
        "datastore": {"type": datastore, "version": version},
    }
    began = time.monotonic()
    instance = demo.post("/instances", json={"instance": body}).json()["instance"]
    seen: dict[str, float] = {}
    while "ready" not in seen:
        for what in _there(connection, argosy, demo, instance["id"], seen):
            seen.setdefault(what, time.monotonic() - began)
        time.sleep(LOOK_EVERY_S)
    demo.delete(f"/instances/{instance['id']}")
    while demo.get(f"/instances/{instance['id']}").status_code != 404:
        time.sleep(LOOK_EVERY_S)
    return Timeline(**seen)


def _plain_boot(cloud: Cloud) -> float:
    """Seconds from ACTIVE until a machine with neither agent nor database says that it is up."""
    compute, name = cloud.connect().compute, "argosy-bench-plain"
    image = cloud.connect().image.find_image(PLAIN_IMAGE, ignore_missing=False)
    network = cloud.connect().network.find_network(cloud.management_network, ignore_missing=False)
    server = compute.create_server(
        name=name,
        image_id=image.id,
        flavor_id=compute.find_flavor("db.tiny", ignore_missing=False).id,
        networks=[{"uuid": network.id}],
        config_drive=True,
    )
    try:
        while compute.get_server(server.id).status != "ACTIVE":
            time.sleep(LOOK_EVERY_S)
        began = time.monotonic()
        while PLAIN_IS_UP not in compute.get_server_console_output(server.id)["output"]:
            time.sleep(LOOK_EVERY_S)
        return time.monotonic() - began
    finally:
        compute.delete_server(server.id)
        compute.wait_for_delete(server)


def _there(
    connection: Any, argosy: Server, demo: Client, instance_id: str, seen: dict[str, float]
) -> list[str]:
    """What is there by now, of what was not seen yet: each question costs the cloud something too."""
    found = []
    name = f"argosy-{instance_id}"
    if "volume_available" not in seen:
        volumes = [one for one in connection.block_storage.volumes() if (one.name or "").startswith(name)]
        found += ["volume"] if volumes else []
        found += ["volume_available"] if any(one.status in {"available", "in-use"} for one in volumes) else []
    elif "server_active" not in seen:
        servers = list(connection.compute.servers(name=name))
        found += ["server"] if servers else []
        found += ["server_active"] if any(one.status == "ACTIVE" for one in servers) else []
    elif "agent" not in seen:
        managed = argosy.client("admin").get(f"/mgmt/instances/{instance_id}").json()["instance"]
        address = managed["server"]["addresses"]["private"][0]["addr"]
        with socket.socket() as probe:
            probe.settimeout(1)
            found += ["agent"] if probe.connect_ex((address, RPC_PORT)) == 0 else []
    else:
        shown = demo.get(f"/instances/{instance_id}").json()["instance"]
        if shown["status"] == "ERROR":
            raise RuntimeError(f"it was not made: {shown.get('fault')}")
        found += ["ready"] if shown["status"] == "ACTIVE" else []
    return found


def _pid(argosy: Server, part: str) -> int:
    pid = argosy.pid(part)
    if pid is None:
        raise RuntimeError(f"no {part} runs")
    return pid


def _told(lines: dict[str, list[Timeline]], plain: list[float], held: dict[str, list[Held]]) -> list[str]:
    shares = ["volume available", "server ACTIVE", "boot until the agent listens"]
    booted = Figures.of(plain).median
    later = (
        max(Figures.of(one.cloud[shares[2]] for one in rounds).median for rounds in lines.values()) - booted
    )
    rows = [
        (
            name,
            Figures.of(one.ready for one in rounds).text(1),
            *(Figures.of(one.cloud[share] for one in rounds).text(1) for share in shares),
            Figures.of(one.ours for one in rounds).text(1),
            str(len(rounds)),
        )
        for name, rounds in lines.items()
    ]
    worst = max(Figures.of(one.ours for one in rounds).median for rounds in lines.values())
    return [
        (
            "From the request for an instance until it is ACTIVE, on the OpenStack of ../shared/openstack (machines emulated in "
            "software, on the processors that also run the cloud and Argosy). The cloud's share is the volume, the server until "
            "Nova has it ACTIVE, and its boot until its agent listens; the rest is Argosy's."
        ),
        table(["seconds", "all of it", *shares, "Argosy's share", "n"], rows),
        (
            f"Reading: Argosy's share is {worst:.1f} s at the median, {'within' if worst <= OURS_AIM_S else 'beyond'} "
            f"the aim of {OURS_AIM_S:.0f} s. A plain Debian of ../shared/openstack takes {booted:.1f} s from ACTIVE until it is up, "
            f"in the same run: an agent listens {later:.1f} s later, {'within' if later <= BOOT_AIM_S else 'beyond'} the aim of "
            f"{BOOT_AIM_S:.0f} s."
        ),
        table(
            ["control plane, MB", "RSS", "PSS"],
            [[f"`argosy serve {name}`", *sizes(readings)] for name, readings in held.items()],
        ),
    ]
