"""What a real cloud does when things of ours are changed behind our back, and what is found and mended of it.

Machines boot from a plain image, as what is asked is what Nova, Cinder and Neutron say; no agent is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from argosy.domain.drift import Finding
from argosy.platforms.base import Expectation
from tests.support.machines import Cloud
from tests.support.openstack_platform import OpenStackSite
from tests.support.server import wait_until


@pytest.fixture
def site(cloud: Cloud) -> Iterator[OpenStackSite]:
    assert cloud
    site = OpenStackSite.real()
    try:
        yield site
    finally:
        site.close()


class Watched:
    """An instance of which is expected what it was when it was built."""

    def __init__(self, site: OpenStackSite) -> None:
        self.site = site
        self.id = site.build_and_wait().instance_id
        self.volume_id = site.platform.volumes.serial(self.id)
        addresses = site.platform.servers.reserve(site.placement(self.id))
        self.address = addresses.agent
        self.expected = Expectation(
            instance_id=self.id,
            volume_gb=1,
            settles=False,
            placement=site.placement(self.id),
            agent=addresses.agent,
            database=addresses.database,
            volume=self.volume_id,
        )

    def look(self, may: Callable[[Finding], bool] = lambda _: True) -> list[Finding]:
        return self.site.platform.survey([self.expected], may)

    def kinds(self) -> list[tuple[str, bool]]:
        return [(one.kind, one.repaired) for one in self.look()]

    def wait_until_nothing_differs(self) -> None:
        wait_until("nothing differs", lambda: self.look(lambda _: False) == [], 120, every_s=1)

    @property
    def port(self) -> Any:
        (port,) = self.site.sdk.network.ports(name=f"argosy-{self.id}-agent")
        return port


def test_what_is_changed_in_the_cloud_is_found_and_mended_where_that_is_safe(site: OpenStackSite) -> None:
    watched, sdk = Watched(site), site.sdk
    watched.wait_until_nothing_differs()

    # Its volume is detached.
    sdk.compute.delete_volume_attachment(site.server(watched.id), watched.volume_id)
    wait_until("it is detached", lambda: site.volume(watched.id).status == "available", 120, every_s=1)
    found = watched.look()
    assert [(one.kind, one.repaired) for one in found] == [("volume-detached", True)], found
    site.wait_until_settled(watched.id)
    assert site.volume(watched.id).attachments[0]["server_id"] == site.server(watched.id).id
    watched.wait_until_nothing_differs()

    # Its port is deleted.
    before = watched.port
    sdk.network.delete_port(before)
    wait_until(
        "Nova knows", lambda: not list(sdk.compute.server_interfaces(site.server(watched.id))), 120, every_s=1
    )
    found = watched.look()
    assert [(one.kind, one.repaired) for one in found] == [("port-missing", True)], found
    assert watched.port.id != before.id
    assert watched.port.fixed_ips[0]["ip_address"] == watched.address
    assert watched.port.device_id == site.server(watched.id).id
    watched.wait_until_nothing_differs()

    # Its port is taken from it.
    sdk.compute.delete_server_interface(watched.port, server=site.server(watched.id))
    wait_until("it is taken", lambda: not watched.port.device_id, 120, every_s=1)
    found = watched.look()
    assert [(one.kind, one.repaired) for one in found] == [("port-detached", True)], found
    watched.wait_until_nothing_differs()

    # Somebody opens its database to the world.
    (group,) = sdk.network.security_groups(name=f"argosy-{watched.id}-database")
    sdk.network.create_security_group_rule(
        security_group_id=group.id, direction="ingress", ether_type="IPv4", protocol="tcp",
        port_range_min=22, port_range_max=22,
    )  # fmt: skip
    assert watched.kinds() == [("security-group-rules", True)]
    assert watched.look() == []

    # It is shut off by a person.
    sdk.compute.stop_server(site.server(watched.id))
    wait_until("it is off", lambda: site.server(watched.id).status == "SHUTOFF", 180, every_s=1)
    assert watched.kinds() == [("server-stopped", False)]

    # It is deleted.
    sdk.compute.delete_server(site.server(watched.id))
    wait_until("it is gone", lambda: site.servers_of(watched.id) == 0, 120, every_s=1)
    found = watched.look()
    assert [(one.kind, one.repaired) for one in found] == [("server-missing", False)], found
    assert "rebuild makes it anew around your data" in found[0].message

    # Its port is put into no group. Only now: an agent of Neutron's for Linux bridges may hang when the port of a
    # running server changes (ebtables of nf_tables does not delete the rule that it had), and no server boots then.
    sdk.network.update_port(watched.port, security_groups=[])
    assert watched.kinds() == [("server-missing", False), ("port-security-groups", True)]

    # It is made anew.
    site.platform.servers.rebuild(site.request(watched.id))
    site.wait_until_settled(watched.id)
    assert site.volume(watched.id).id == watched.volume_id
    assert site.volume(watched.id).attachments[0]["server_id"] == site.server(watched.id).id
    assert watched.port.fixed_ips[0]["ip_address"] == watched.address
    watched.wait_until_nothing_differs()

    # Nobody knows it any more.
    stranger = site.new_id()
    site.reserve(stranger)
    orphans = site.platform.survey([], lambda _: True)
    assert {(one.kind, one.carries, one.repaired) for one in orphans} == {
        ("orphan-server", watched.id, False),
        ("orphan-volume", watched.id, False),
        ("orphan-port", stranger, False),
    }
    assert site.servers_of(watched.id) == 1
    assert site.volume(watched.id).id == watched.volume_id
