"""The software of a version, made ready before the first server of it boots."""

from __future__ import annotations

from dbos import DBOS

from argosy import catalog
from argosy.domain.errors import ImageUnavailable
from argosy.platforms.base import ImagePhase, ImageState
from argosy.taskmanager.parts import parts
from argosy.taskmanager.steps.again import step


def wait_until_ready(
    operation_id: str, datastore: str, version: str, *, every_s: float = 0.5, tries: int = 1800
) -> None:
    """Have the version's software pulled if need be, and wait for it. Raises ImageUnavailable with the reason."""
    state = ask_for(operation_id, datastore, version)
    for _ in range(tries):
        if state.phase is ImagePhase.READY:
            return
        if state.phase is ImagePhase.FAILED:
            raise ImageUnavailable(state.detail)
        DBOS.sleep(every_s)
        state = look_at(operation_id, datastore, version)
    raise ImageUnavailable(f"The software of {datastore} {version} was not ready in time: try again.")


@step(name="images.ask_for")
def ask_for(operation_id: str, datastore: str, version: str) -> ImageState:
    """Begin the pull unless the software is ready; a pull that failed earlier is tried again."""
    images = parts().platform.images
    _, wanted = catalog.version(datastore, version)
    if images.state(wanted).phase is not ImagePhase.READY:
        images.begin(wanted)
    return _shown(operation_id, images.state(wanted))


@step(name="images.look_at")
def look_at(operation_id: str, datastore: str, version: str) -> ImageState:
    images = parts().platform.images
    _, wanted = catalog.version(datastore, version)
    state = images.state(wanted)
    if state.phase is ImagePhase.ABSENT:
        # The process that was pulling it is gone.
        images.begin(wanted)
    return _shown(operation_id, state)


def _shown(operation_id: str, state: ImageState) -> ImageState:
    if state.phase is ImagePhase.PULLING and state.detail:
        with parts().store.write() as tx:
            tx.operations.say(operation_id, f"getting the software: {state.detail}")
    return state


@step(name="images.publish")
def publish() -> None:
    """Tell how far the software of each version is, where that changed."""
    own = parts()
    with own.store.read() as tx:
        known = {
            (image.datastore, image.version): (image.phase, image.detail, image.source)
            for image in tx.images.all()
        }
    for datastore in catalog.datastores().values():
        for version in datastore.versions:
            state = own.platform.images.state(version)
            if known.get((datastore.name, version.name)) != (state.phase.value, state.detail, state.source):
                with own.store.write() as tx:
                    tx.images.publish(
                        datastore.name,
                        version.name,
                        phase=state.phase.value,
                        detail=state.detail,
                        source=state.source,
                    )


@step(name="images.publish_parameters")
def publish_parameters() -> None:
    """Tell what the server of each version that is ready told of its parameters, where that is news."""
    own = parts()
    with own.store.read() as tx:
        known = tx.parameters.digests()
    for datastore in catalog.datastores().values():
        for version in datastore.versions:
            told = own.platform.images.parameters(version)
            if told is None:
                state = own.platform.images.state(version)
                if state.phase is ImagePhase.ABSENT and state.source is not None:
                    # Pulled by a release that did not ask.
                    own.platform.images.begin(version)
            if told is not None and known.get((datastore.name, version.name)) != told.digest:
                with own.store.write() as tx:
                    tx.parameters.publish(datastore.name, version.name, told)
