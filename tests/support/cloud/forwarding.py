"""The way in from outside: what comes to a floating IP goes on to its port, if a security group of that lets it in.

It is a way for TCP and for rules of one port each, such as ours are. From inside, ports are reached past their groups:
all is on loopback. What a group does not let in is cut off rather than left unanswered.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from ipaddress import ip_address, ip_network

from tests.support.cloud.neutron import Neutron
from tests.support.cloud.wire import Body

Place = tuple[str, int]


class Forwarding:
    """All of it on the cloud's own thread."""

    def __init__(self, neutron: Neutron) -> None:
        self._neutron = neutron
        self._open: dict[Place, asyncio.Server] = {}
        self._settling = asyncio.Lock()
        self._streams: set[asyncio.Task[None]] = set()

    async def settle(self) -> None:
        """Listen where there is something to forward, and nowhere else."""
        async with self._settling:
            wanted = self._wanted()
            for place in [place for place in self._open if place not in wanted]:
                self._open.pop(place).close()
            for place in wanted - set(self._open):
                self._open[place] = await asyncio.start_server(self._come, *place)

    def close(self) -> None:
        for server in self._open.values():
            server.close()
        for stream in self._streams:
            stream.cancel()

    def _wanted(self) -> set[Place]:
        return {
            (one["floating_ip_address"], rule["port_range_min"])
            for one in self._neutron.stored["floatingip"].values()
            if one["port_id"]
            for rule in self._rules(one["port_id"])
        }

    def _rules(self, port_id: str) -> list[Body]:
        groups = self._neutron.stored["port"][port_id]["security_groups"]
        return [
            rule
            for group_id in groups
            for rule in self._neutron.rules_of(group_id)
            if (rule["direction"], rule["protocol"]) == ("ingress", "tcp")
            and rule["port_range_min"] == rule["port_range_max"] is not None
        ]

    async def _come(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        here, peer = writer.get_extra_info("sockname"), writer.get_extra_info("peername")
        inside = self._inside(here[0], here[1], peer[0])
        if inside is None:
            writer.transport.abort()
            return
        try:
            # From where it came, as far as the database can tell, as a router leaves it.
            further, back = await asyncio.open_connection(inside, here[1], local_addr=(peer[0], 0))
        except OSError:
            writer.transport.abort()
            return
        for task in (
            asyncio.create_task(_carry(reader, back)),
            asyncio.create_task(_carry(further, writer)),
        ):
            self._streams.add(task)
            task.add_done_callback(self._streams.discard)

    def _inside(self, address: str, port: int, peer: str) -> str | None:
        """Where it leads to for whoever comes; None when that may not."""
        for one in self._neutron.stored["floatingip"].values():
            if one["floating_ip_address"] == address and one["port_id"]:
                for rule in self._rules(one["port_id"]):
                    source = ip_network(str(rule["remote_ip_prefix"] or "0.0.0.0/0"), strict=False)
                    if rule["port_range_min"] == port and ip_address(peer) in source:
                        return str(one["fixed_ip_address"])
        return None


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while part := await reader.read(65536):
            writer.write(part)
            await writer.drain()
    writer.close()
