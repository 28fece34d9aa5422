"""What can be had: datastores, flavors, images; and the certificate that databases are known by."""

from __future__ import annotations

from urllib.parse import quote

from argosy.client.errors import Ambiguous, NotFound
from argosy.client.models import Datastore, Flavor, Image, Operation
from argosy.client.session import Session


class Datastores:
    def __init__(self, session: Session) -> None:
        self._session = session

    def all(self) -> list[Datastore]:
        return [Datastore.read(shown) for shown in self._session.get("/datastores")["datastores"]]

    def get(self, name_or_id: str) -> Datastore:
        return Datastore.read(self._session.get(f"/datastores/{quote(name_or_id, safe='')}")["datastore"])


class Flavors:
    def __init__(self, session: Session) -> None:
        self._session = session

    def all(self) -> list[Flavor]:
        return [Flavor.read(shown) for shown in self._session.get("/flavors")["flavors"]]

    def find(self, name_or_id: str) -> Flavor:
        """By id or name; `small` finds `db.small`, as the first part is on all of them. Raises NotFound."""
        there = self.all()
        for matches in (
            [each for each in there if each.id == name_or_id],
            [each for each in there if each.name == name_or_id],
            [each for each in there if each.name.rpartition(".")[2] == name_or_id],
        ):
            if len(matches) > 1:
                raise Ambiguous("flavor", name_or_id, [each.id for each in matches])
            if matches:
                return matches[0]
        names = ", ".join(each.name for each in there)
        raise NotFound(f"No flavor has the name or id {name_or_id!r}: choose one of {names}.")


class Images:
    """The software of each datastore version, as the platform has it. Pulling is for administrators."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def all(self) -> list[Image]:
        """Those that were ever asked for."""
        return [Image.read(shown) for shown in self._session.get("/images")["images"]]

    def pull(self, datastore: str, version: str) -> Operation:
        """Begin to fetch one; what is ready is left alone."""
        asked = {"image": {"datastore": datastore, "version": version}}
        return Operation.read(self._session.post("/images", asked)["operation"])


def certificate_authority(session: Session) -> str:
    """The certificate, as PEM, that signs those of all databases."""
    return str(session.get("/certificate-authority")["certificate_authority"]["pem"])
