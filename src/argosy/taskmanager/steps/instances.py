"""An instance's row."""

from __future__ import annotations

from argosy import catalog
from argosy.domain import access
from argosy.domain.access import Rules
from argosy.domain.errors import Failed
from argosy.domain.instance import Flavor
from argosy.domain.upgrades import is_release
from argosy.taskmanager.parts import parts
from argosy.taskmanager.steps import log_archives
from argosy.taskmanager.steps.again import step


@step(name="instances.address_of")
def address_of(instance_id: str) -> str | None:
    with parts().store.read() as tx:
        return tx.instances.get(instance_id).address


def server_of(instance_id: str) -> str:
    """The address of the instance's server. Raises Failed when it has none."""
    address = address_of(instance_id)
    if address is None:
        raise Failed("The instance has no server: delete it and make it anew.")
    return address


@step(name="instances.set_volume_gb")
def set_volume_gb(instance_id: str, size_gb: int) -> None:
    with parts().store.write() as tx:
        tx.instances.set_volume_gb(instance_id, size_gb)


@step(name="instances.flavor_of")
def flavor_of(instance_id: str) -> Flavor:
    with parts().store.read() as tx:
        return tx.flavors.get(tx.instances.get(instance_id).flavor_id)


@step(name="instances.find_flavor")
def find_flavor(flavor_id: str) -> Flavor:
    with parts().store.read() as tx:
        return tx.flavors.get(flavor_id)


@step(name="instances.set_flavor")
def set_flavor(instance_id: str, flavor_id: str) -> None:
    """What the instance is from now on; its server learns it by `servers.replace`."""
    with parts().store.write() as tx:
        tx.instances.set_flavor(instance_id, flavor_id)


@step(name="instances.version_of")
def version_of(instance_id: str) -> tuple[str, str]:
    """The names of its datastore and version."""
    with parts().store.read() as tx:
        instance = tx.instances.get(instance_id)
    return instance.datastore, instance.version


@step(name="instances.is_release_of")
def is_release_of(instance_id: str, datastore: str, version: str) -> bool:
    """Whether another version is only another release of the instance's, which runs on the same files."""
    with parts().store.read() as tx:
        instance = tx.instances.get(instance_id)
    current = catalog.version(instance.datastore, instance.version)
    return is_release(current, catalog.version(datastore, version))


@step(name="instances.tell")
def tell(instance_id: str, kind: str, message: str) -> None:
    """An event of it. Told twice if the task manager dies in this very moment."""
    with parts().store.write() as tx:
        project_id = tx.instances.get(instance_id).project_id
        tx.events.add(project_id, instance_id, kind, message, "taskmanager")


@step(name="instances.rules_of")
def rules_of(instance_id: str) -> Rules:
    with parts().store.read() as tx:
        return access.rules_of(tx.instances.get(instance_id))


@step(name="instances.note_rules")
def note_rules(instance_id: str, rules: Rules) -> None:
    """Who may connect from now on, where `show` and the next server of the instance find it."""
    with parts().store.write() as tx:
        tx.instances.set_access(instance_id, rules.shown(), require_tls=rules.require_tls)


@step(name="instances.bury")
def bury(operation_id: str) -> None:
    """Nothing of the instance is left: it is gone for its owner too."""
    with parts().store.write() as tx:
        tx.operations.bury(operation_id)
        instance_id = tx.operations.get(operation_id).instance_id or ""
        log_archives.leave(tx, instance_id)
        tx.grants.take(instance_id)
