"""A small OpenStack, simulated: Keystone, Nova, Cinder, Neutron and Glance as one program in the test's own process.

::

    with SimulatedCloud() as cloud:
        connection = cloud.connect()  # openstacksdk's own

With a hypervisor (`hypervisor.Machines`) its servers run real agents: docs/decisions/0028.

How like a real one it is, is tested (tests/openstack/test_simulation.py): the same hundred and more calls of both, status by
status and field by field, good and bad ones, at five microversions of Nova. The real one is what ../shared/openstack/aio.sh
brings up: Zed, with Keystone 22.0, Nova 26.2, Cinder 21.3, Neutron 21.0 and Glance 25.1. What boots a machine there, the
platforms' contract compares, on both (tests/platforms/test_platform_contract.py); what Argosy asks a Keystone when users are
Keystone's, tests/openstack/test_keystone.py.

Taken down by hand from one machine's life there: the order of states of build, resize, confirm, stop, rebuild (of a stopped
server, too) and delete; what each refuses meanwhile; volumes that are attached, detached and grown (in use from 3.42 on
alone); one that finds no room, and the message about it; quotas that are spent, in each service's words; tokens of wrong
passwords and of application credentials; pages of images, whose links keep the last of several tags alone.

Not compared, as that cloud has none: routers, floating IPs and external networks (written from the API's reference),
several hosts and availability zones, soft deletion.
"""

from tests.support.cloud.cloud import SimulatedCloud

__all__ = ["SimulatedCloud"]
