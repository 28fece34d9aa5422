"""An instance's server: its address, its identity, its boot and its end."""

from __future__ import annotations

from dbos import DBOS

from argosy import catalog
from argosy.domain.errors import Unavailable
from argosy.platforms.base import Credentials, ServerRequest, Software
from argosy.rpc import peers
from argosy.taskmanager.parts import parts
from argosy.taskmanager.steps import log_archives


def is_transient(error: BaseException) -> bool:
    return isinstance(error, Unavailable)


@DBOS.step(name="servers.reserve")
def reserve(instance_id: str) -> str:
    """The instance's address, written where its owner sees it."""
    address = parts().platform.servers.reserve(instance_id)
    with parts().store.write() as tx:
        tx.instances.set_address(instance_id, address)
    return address


@DBOS.step(name="servers.boot", retries_allowed=True, should_retry=is_transient)
def boot(instance_id: str, address: str) -> None:
    """Boot the server with an identity of its own; one that runs is left alone."""
    parts().platform.servers.create(_request(instance_id, address))


@DBOS.step(name="servers.replace", retries_allowed=True, should_retry=is_transient)
def replace(instance_id: str, address: str) -> None:
    """Tell the server what the instance's row now says of it, and boot its agent again."""
    parts().platform.servers.replace(_request(instance_id, address))


@DBOS.step(name="servers.become", retries_allowed=True, should_retry=is_transient)
def become(instance_id: str, address: str, datastore: str, version: str) -> None:
    """Make the instance one of another version, in its row and on its server at once, and boot its agent again."""
    with parts().store.write() as tx:
        before = tx.instances.get(instance_id)
        log_archives.change_version(tx, before, datastore, version)
        tx.instances.set_version(instance_id, datastore, version)
    parts().platform.servers.replace(_request(instance_id, address))


@DBOS.step(name="servers.offer")
def offer(instance_id: str, datastore: str, version: str) -> Software:
    """The software of another version, where the instance's guest finds it."""
    _, wanted = catalog.version(datastore, version)
    return parts().platform.servers.offer(instance_id, wanted)


@DBOS.step(name="servers.limit")
def limit(instance_id: str) -> None:
    """Hold the server to the size it was last told. Raises PlatformError when it uses more."""
    parts().platform.servers.limit(instance_id)


def _request(instance_id: str, address: str) -> ServerRequest:
    """What a server is told, as the instance's row has it.

    Its identity is made here and goes nowhere but to the guest: a step's result would be stored.
    """
    own = parts()
    with own.store.read() as tx:
        instance = tx.instances.get(instance_id)
        flavor = tx.flavors.get(instance.flavor_id)
    datastore, version = catalog.version(instance.datastore, instance.version)
    identity = own.control.issue(
        common_name=peers.guest(instance_id), addresses=[address], client=True, server=True
    )
    shown = own.database.issue(common_name=address, addresses=[address], server=True)
    return ServerRequest(
        instance_id=instance_id,
        version=version,
        engine=datastore.engine,
        port=datastore.port,
        flavor=flavor,
        credentials=Credentials(
            rpc_ca=own.control.certificate,
            rpc_certificate=identity.certificate,
            rpc_key=identity.key,
            tls_ca=own.database.certificate,
            tls_certificate=shown.certificate,
            tls_key=shown.key,
        ),
        conductor_url=own.conductor_url,
    )


@DBOS.step(name="servers.boot_again")
def boot_again(instance_id: str) -> bool:
    """Boot a server that has died; one that runs is left alone. Says whether it had."""
    return bool(parts().platform.servers.heal([instance_id]))


@DBOS.step(name="servers.note_limits")
def note_limits(instance_id: str) -> None:
    """Write down which limits the platform enforces, for `show`."""
    limits = parts().platform.servers.limits(instance_id)
    with parts().store.write() as tx:
        tx.instances.set_platform(instance_id, {"name": parts().platform.name, "limits": limits})


@DBOS.step(name="servers.delete", retries_allowed=True, should_retry=is_transient)
def delete(instance_id: str) -> None:
    parts().platform.servers.delete(instance_id)
