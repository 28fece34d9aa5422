"""An instance's server: its addresses, its identity, its boot and its end.

A platform's servers are processes beside the control plane, or machines (`Platform.machines`). A process is told what it
is by files. A machine asks the conductor, at each boot of its agent; what is written down for it here is what it hears.
"""

from __future__ import annotations

from dbos import DBOS

from argosy import catalog
from argosy.domain.access import rules_of
from argosy.domain.errors import PlatformError, Unavailable
from argosy.domain.guest import Told
from argosy.domain.instance import Instance
from argosy.platforms.base import Addresses, Credentials, Placement, ServerRequest, Software
from argosy.rpc import peers
from argosy.rpc.enrolment import BOOTSTRAP_DAYS, FORMAT, Bootstrap
from argosy.taskmanager.parts import parts
from argosy.taskmanager.steps import log_archives
from argosy.taskmanager.steps.again import step

# A cloud may take a while to find room for a machine.
SETTLE_TRIES, SETTLE_S = 900, 1.0


def machines() -> bool:
    """Whether servers are machines: configuration, so that a workflow which is replayed takes the same turns."""
    return parts().platform.machines


def is_transient(error: BaseException) -> bool:
    return isinstance(error, Unavailable)


@step(name="servers.reserve", retries_allowed=True, should_retry=is_transient)
def reserve(instance_id: str) -> str:
    """The address its guest is called at; where clients come is written down for its owner."""
    addresses = parts().platform.servers.reserve(_placement(instance_id))
    _note_addresses(instance_id, addresses)
    return addresses.agent


@step(name="servers.allow", retries_allowed=True, should_retry=is_transient)
def allow(instance_id: str) -> bool:
    """Open the database on the platform's network to whom its row says, and to nobody else.

    Says whether clients come by other addresses from now on.
    """
    addresses = parts().platform.servers.allow(_placement(instance_id))
    _note_addresses(instance_id, addresses)
    with parts().store.read() as tx:
        told = tx.guests.find(instance_id)
    return told is not None and told.addresses != _shown(addresses)


@step(name="servers.boot", retries_allowed=True, should_retry=is_transient)
def boot(instance_id: str, address: str) -> None:
    """Boot the server with an identity of its own; one that runs is left alone."""
    parts().platform.servers.create(_request(instance_id, address))


def wait_until_settled(instance_id: str) -> None:
    """Wait until the platform has done what was asked of a machine. Raises PlatformError, in the platform's own words."""
    if not machines():
        return
    for _ in range(SETTLE_TRIES):
        if settled(instance_id):
            return
        DBOS.sleep(SETTLE_S)
    raise PlatformError(
        f"The platform did not do what was asked of the server of instance {instance_id} in "
        f"{SETTLE_TRIES * SETTLE_S / 60:.0f} minutes: an operator finds the reason there."
    )


@step(name="servers.settled", retries_allowed=True, should_retry=is_transient)
def settled(instance_id: str) -> bool:
    return parts().platform.servers.settled(instance_id)


@step(name="servers.replace", retries_allowed=True, should_retry=is_transient)
def replace(instance_id: str, address: str) -> None:
    """Tell the server what the instance's row now says of it, and boot its agent again. Not for machines."""
    parts().platform.servers.replace(_request(instance_id, address))


def remake(instance_id: str, address: str, also: tuple[str, str] | None = None) -> None:
    """Make the server anew around the data that is there, with another identity; of machines with that version's software too."""
    if not machines():
        replace(instance_id, address)
        return
    renew_identity(instance_id)
    rebuild(instance_id, address, also)
    wait_until_settled(instance_id)


@step(name="servers.renew_identity")
def renew_identity(instance_id: str) -> int:
    """Void the identity of a machine that is to be made anew."""
    with parts().store.write() as tx:
        return tx.guests.renew(instance_id)


@step(name="servers.rebuild", retries_allowed=True, should_retry=is_transient)
def rebuild(instance_id: str, address: str, also: tuple[str, str] | None) -> None:
    parts().platform.servers.rebuild(_request(instance_id, address, also))


@step(name="servers.reboot", retries_allowed=True, should_retry=is_transient)
def reboot(instance_id: str) -> None:
    """Boot a machine again, whatever it is doing."""
    parts().platform.servers.reboot(instance_id)


@step(name="servers.resize", retries_allowed=True, should_retry=is_transient)
def resize(instance_id: str) -> None:
    """Boot a machine anew in the size its row says."""
    with parts().store.read() as tx:
        flavor = tx.flavors.get(tx.instances.get(instance_id).flavor_id)
    parts().platform.servers.resize(instance_id, flavor)


@step(name="servers.confirm", retries_allowed=True, should_retry=is_transient)
def confirm(instance_id: str) -> None:
    parts().platform.servers.confirm(instance_id)


@step(name="servers.revert", retries_allowed=True, should_retry=is_transient)
def revert(instance_id: str) -> None:
    parts().platform.servers.revert(instance_id)


@step(name="servers.tell")
def tell(instance_id: str) -> None:
    """Write down what the instance's row now says of its machine, for the next time that its agent asks."""
    with parts().store.read() as tx:
        instance = tx.instances.get(instance_id)
    _tell(instance)


@step(name="servers.become", retries_allowed=True, should_retry=is_transient)
def become(instance_id: str, address: str, datastore: str, version: str) -> None:
    """Make the instance one of another version, in its row and on its server at once, and boot its agent again.

    A machine's agent has to be asked to live anew besides.
    """
    with parts().store.write() as tx:
        before = tx.instances.get(instance_id)
        log_archives.change_version(tx, before, datastore, version)
        tx.instances.set_version(instance_id, datastore, version)
    if machines():
        with parts().store.read() as tx:
            instance = tx.instances.get(instance_id)
        _tell(instance)
    else:
        parts().platform.servers.replace(_request(instance_id, address))


@step(name="servers.holds", retries_allowed=True, should_retry=is_transient)
def holds(instance_id: str, datastore: str, version: str) -> bool:
    """Whether a machine has the software of another version, or can be given it as it is."""
    _, wanted = catalog.version(datastore, version)
    return parts().platform.servers.holds(instance_id, wanted)


@step(name="servers.offer")
def offer(instance_id: str, datastore: str, version: str) -> Software:
    """The software of another version, where the instance's guest finds it."""
    _, wanted = catalog.version(datastore, version)
    return parts().platform.servers.offer(instance_id, wanted)


@step(name="servers.limit")
def limit(instance_id: str) -> None:
    """Hold the server to the size it was last told. Raises PlatformError when it uses more."""
    parts().platform.servers.limit(instance_id)


@step(name="servers.boot_again")
def boot_again(instance_id: str) -> bool:
    """Boot a server that has died; one that runs is left alone. Says whether it had."""
    return bool(parts().platform.servers.heal([instance_id]))


@step(name="servers.note_limits")
def note_limits(instance_id: str) -> None:
    """Write down which limits the platform enforces, for `show`."""
    limits = parts().platform.servers.limits(instance_id)
    with parts().store.write() as tx:
        tx.instances.set_platform(instance_id, {"name": parts().platform.name, "limits": limits})


@step(name="servers.delete", retries_allowed=True, should_retry=is_transient)
def delete(instance_id: str) -> None:
    parts().platform.servers.delete(instance_id)
    with parts().store.write() as tx:
        tx.guests.forget(instance_id)


def _placement(instance_id: str) -> Placement:
    with parts().store.read() as tx:
        instance = tx.instances.get(instance_id)
    return placement_of(instance)


def placement_of(instance: Instance) -> Placement:
    """Where its row says it is to be, and who may come near it."""
    rules = rules_of(instance)
    return Placement(
        instance_id=instance.id,
        port=catalog.datastores()[instance.datastore].port,
        project=instance.project_id,
        public=rules.is_public,
        networks=rules.networks,
        **instance.placement,
    )


def _note_addresses(instance_id: str, addresses: Addresses) -> None:
    shown = [
        {"address": one.address, "type": "public" if one.public else "private", "network": one.network}
        for one in addresses.shown
    ]
    with parts().store.write() as tx:
        tx.instances.set_address(instance_id, addresses.agent)
        if machines():
            tx.instances.set_platform(instance_id, {"addresses": shown})


def _shown(addresses: Addresses) -> tuple[str, ...]:
    return tuple(one.address for one in addresses.shown)


def _request(instance_id: str, address: str, also: tuple[str, str] | None = None) -> ServerRequest:
    """What a server is to be, as the instance's row has it.

    Its identity is made here and goes nowhere but to the guest: a step's result would be stored.
    """
    own = parts()
    with own.store.read() as tx:
        instance = tx.instances.get(instance_id)
        flavor = tx.flavors.get(instance.flavor_id)
    datastore, version = catalog.version(instance.datastore, instance.version)
    return ServerRequest(
        instance_id=instance_id,
        version=version,
        engine=datastore.engine,
        port=datastore.port,
        flavor=flavor,
        conductor_url=own.conductor_url,
        credentials=None if machines() else _credentials(instance_id, address),
        placement=placement_of(instance),
        volume_gb=instance.volume_gb,
        also=() if also is None else (catalog.version(*also)[1],),
        user_data=_bootstrap(instance) if machines() else "",
    )


def _credentials(instance_id: str, address: str) -> Credentials:
    own = parts()
    identity = own.control.issue(
        common_name=peers.guest(instance_id), addresses=[address], client=True, server=True
    )
    shown = own.database.issue(common_name=address, addresses=[address], server=True)
    return Credentials(
        rpc_ca=own.control.certificate,
        rpc_certificate=identity.certificate,
        rpc_key=identity.key,
        tls_ca=own.database.certificate,
        tls_certificate=shown.certificate,
        tls_key=shown.key,
    )


def _bootstrap(instance: Instance) -> str:
    """What a machine's config drive says. Whichever of two that were made is on it, the first key enrols."""
    own = parts()
    told = _tell(instance)
    identity = own.control.issue(
        common_name=peers.bootstrap(instance.id, told.identity), client=True, days=BOOTSTRAP_DAYS
    )
    return Bootstrap(
        argosy=FORMAT,
        instance_id=instance.id,
        conductor_url=own.conductor_url,
        ca=own.control.certificate,
        certificate=identity.certificate,
        key=identity.key,
    ).text()


def _tell(instance: Instance) -> Told:
    own = parts()
    addresses = own.platform.servers.reserve(placement_of(instance))
    datastore, version = catalog.version(instance.datastore, instance.version)
    volume = own.platform.volumes.serial(instance.id)
    with own.store.write() as tx:
        flavor = tx.flavors.get(instance.flavor_id)
        tx.guests.tell(
            Told(
                instance_id=instance.id,
                engine=datastore.engine,
                datastore=datastore.name,
                version=version.name,
                series=version.series,
                address=addresses.database,
                addresses=_shown(addresses),
                port=datastore.port,
                rpc_address=addresses.agent,
                memory_mb=max(flavor.memory_mb - own.reserved_memory_mb, flavor.memory_mb // 2),
                vcpus=flavor.vcpus,
                volume=volume,
            )
        )
        told = tx.guests.find(instance.id)
    if told is None:
        raise PlatformError(f"Instance {instance.id} is gone.")
    return told
