"""The config drive of a server, file by file, as Nova lays it out (nova.virt.configdrive, instance metadata)."""

from __future__ import annotations

import base64
import json
from ipaddress import IPv4Network
from typing import TYPE_CHECKING

from tests.support.cloud.wire import Body

if TYPE_CHECKING:
    from tests.support.cloud.neutron import Neutron
    from tests.support.cloud.nova import Server

VERSIONS = ("2012-08-10", "2018-08-27", "latest")  # the oldest, the newest and the one that always is


def config_drive(server: Server, ports: list[Body], neutron: Neutron) -> dict[str, bytes]:
    """Paths on the drive and what they hold; `ports` in the server's order."""
    meta_data = {
        "uuid": server.id,
        "meta": server.metadata,
        "hostname": server.hostname,
        "name": server.name,
        "launch_index": 0,
        "availability_zone": server.zone,
        "random_seed": base64.b64encode(server.id.encode()).decode(),
        "project_id": server.caller.project_id,
        "devices": [
            {"type": "disk", "bus": "virtio", "serial": one.volume_id, "path": one.device, "tags": [one.tag]}
            for one in server.attachments
            if one.tag
        ],
        "dedicated_cpus": [],
    }
    files = {"meta_data.json": json.dumps(meta_data).encode()}
    files["network_data.json"] = json.dumps(network_data(ports, neutron)).encode()
    files["vendor_data.json"] = files["vendor_data2.json"] = b"{}"
    if server.user_data is not None:
        files["user_data"] = base64.b64decode(server.user_data)
    return {f"openstack/{version}/{name}": data for version in VERSIONS for name, data in files.items()}


def network_data(ports: list[Body], neutron: Neutron) -> Body:
    links, networks = [], []
    for number, port in enumerate(ports):
        tap = f"tap{port['id'][:11]}"
        links.append(
            {
                "id": tap,
                "vif_id": port["id"],
                "type": "bridge",
                "mtu": 1500,
                "ethernet_mac_address": port["mac_address"],
            }
        )
        for ip in port["fixed_ips"]:
            subnet = neutron.stored["subnet"][ip["subnet_id"]]
            networks.append(
                {"id": f"network{number}", "type": "ipv4_dhcp", "link": tap, "network_id": port["network_id"]}
                if subnet["enable_dhcp"]
                else {
                    "id": f"network{number}",
                    "type": "ipv4",
                    "link": tap,
                    "ip_address": ip["ip_address"],
                    "netmask": str(IPv4Network(subnet["cidr"]).netmask),
                    "routes": [],
                    "network_id": port["network_id"],
                    "services": [],
                }
            )
    return {"links": links, "networks": networks, "services": []}
