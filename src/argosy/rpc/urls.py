"""How a guest gets at the store that backups are in: URLs had of the conductor, POST /v1/urls, for what it is granted."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

PATH = "/v1/urls"
AT_ONCE = 64
VALID_S = 900


class UrlsWanted(BaseModel):
    """`names` are of objects, whole, below one of the prefixes that this guest was granted for the method."""

    model_config = ConfigDict(extra="ignore")
    instance_id: str
    container: str
    method: Literal["GET", "PUT"]
    names: list[str]


class Urls(BaseModel):
    """In the order of the names; each is good for `VALID_S` seconds.

    `by_conductor` says that the conductor itself serves them, so that the guest shows its certificate. `authority`
    (PEM) signed the store's certificate, if that is nobody whom the guest's system knows.
    """

    model_config = ConfigDict(extra="ignore")
    urls: list[str]
    by_conductor: bool = False
    authority: str | None = None
