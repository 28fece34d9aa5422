"""Glance v2: images with tags and properties of their own, whose data is kept in memory."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from urllib.parse import urlencode

from starlette.responses import JSONResponse, Response

from tests.support.cloud.wire import Body, Call, Caller, Refused, Service, html_page, new_id, now

_TITLES = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    409: "Conflict",
    413: "Request Entity Too Large",
    429: "Too Many Requests",
}
_READ_ONLY = {
    *("id", "status", "size", "virtual_size", "checksum", "os_hash_algo", "os_hash_value", "created_at"),
    *("updated_at", "self", "file", "schema"),
}
_BASE = {
    *(
        "name",
        "disk_format",
        "container_format",
        "visibility",
        "protected",
        "min_ram",
        "min_disk",
        "os_hidden",
    ),
    "tags",
}


@dataclass
class Glance(Service):
    path: str = "/image"
    images: dict[str, Body] = field(default_factory=dict)
    data: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.serve("GET /", self.versions, open_to_all=True)
        self.serve("GET /versions", self.versions, open_to_all=True)
        self.serve("GET /v2/images", self.list_images)
        self.serve("POST /v2/images", self.create)
        self.serve("GET /v2/images/{id}", self.show)
        self.serve("PATCH /v2/images/{id}", self.patch)
        self.serve("DELETE /v2/images/{id}", self.delete)
        self.serve("GET /v2/images/{id}/file", self.download)
        self.serve("PUT /v2/images/{id}/file", self.upload)
        self.serve("PUT /v2/images/{id}/tags/{tag}", self.add_tag)
        self.serve("DELETE /v2/images/{id}/tags/{tag}", self.remove_tag)
        self.serve("GET /v2/schemas/image", self.schema)

    def refusal(self, refused: Refused) -> Response:
        title = _TITLES.get(refused.status, "Error")
        text = html_page(refused.status, title, refused.message)
        return Response(text, refused.status, refused.headers, media_type="text/html")

    def unauthorised(self) -> Response:
        return self.refusal(
            Refused(
                401,
                "This server could not verify that you are authorized to access the document you requested.",
            )
        )

    def versions(self, call: Call) -> Response:
        links = [{"rel": "self", "href": f"{call.base}{self.path}/v2/"}]
        named = [("v2.15", "CURRENT"), *((f"v2.{one}", "SUPPORTED") for one in (13, *range(12, -1, -1)))]
        return JSONResponse(
            {"versions": [{"id": id_, "status": one, "links": links} for id_, one in named]}, 300
        )

    def schema(self, call: Call) -> Response:
        return JSONResponse({"name": "image", "properties": {}, "additionalProperties": {"type": "string"}})

    # Seen

    def find(self, id_: str, caller: Caller) -> Body | None:
        image = self.images.get(id_)
        if image is None or not self._visible(image, caller):
            return None
        return image

    def _visible(self, image: Body, caller: Caller) -> bool:
        return (
            caller.is_admin
            or image["owner"] == caller.project_id
            or image["visibility"] in {"public", "community", "shared"}
        )

    def _own(self, call: Call, doing: str = "") -> Body:
        image = self.find(call.part("id"), call.caller)
        if image is None:
            said = f"Failed to find image {call.part('id')} to {doing}" if doing else ""
            raise Refused(404, said or f"No image found with ID {call.part('id')}")
        if doing and image["owner"] != call.caller.project_id and not call.caller.is_admin:
            raise Refused(403, f"You are not permitted to {doing} this image.")
        return image

    def show(self, call: Call) -> Response:
        return JSONResponse(self._own(call))

    def list_images(self, call: Call) -> Response:
        found = [one for one in self.images.values() if self._visible(one, call.caller)]
        found = [one for one in found if self._matches(one, call)]
        # Newest first unless asked otherwise, and by the order of making within a second.
        found.reverse()
        for key in reversed(call.query("sort").split(",") if call.query("sort") else []):
            name, _, direction = key.partition(":")
            found.sort(key=lambda one: str(one.get(name) or ""), reverse=direction != "asc")
        limit = min(int(call.query("limit") or 25), 1000)
        marker = call.query("marker")
        start = 0
        if marker:
            places = [place for place, one in enumerate(found) if one["id"] == marker]
            if not places:
                raise Refused(400, f"Invalid marker. Image {marker} could not be found.")
            start = places[0] + 1
        shown = found[start : start + limit]
        kept = dict(call.pairs)  # of a filter given several times only the last one gets into the links
        kept.pop("marker", None)
        answer: Body = {
            "images": shown,
            "first": f"/v2/images?{urlencode(kept)}" if kept else "/v2/images",
            "schema": "/v2/schemas/images",
        }
        if len(shown) == limit:
            answer["next"] = f"/v2/images?{urlencode({**kept, 'marker': shown[-1]['id']})}"
        return JSONResponse(answer)

    def _matches(self, image: Body, call: Call) -> bool:
        if image["os_hidden"] and call.query("os_hidden").lower() != "true":
            return False
        for name, value in call.pairs:
            if name in {"limit", "marker", "sort", "sort_key", "sort_dir", "os_hidden", "member_status"}:
                continue
            if name == "tag":
                if value not in image["tags"]:
                    return False
            elif name == "visibility" and value == "all":
                continue
            elif value.startswith("in:"):
                if str(image.get(name)) not in value.removeprefix("in:").split(","):
                    return False
            elif str(image.get(name)) != value:
                return False
        return True

    def download(self, call: Call) -> Response:
        image = self._own(call)
        if image["id"] not in self.data:
            return Response(status_code=204)
        headers = {"Content-MD5": image["checksum"]}
        return Response(self.data[image["id"]], 200, headers, media_type="application/octet-stream")

    # Made

    def add(
        self, name: str, owner: str, data: bytes = b"", *, public: bool = False, **properties: object
    ) -> str:
        """An active image; its id."""
        image = self._make(
            {"name": name, "disk_format": "raw", "container_format": "bare", **properties}, owner
        )
        image["visibility"] = "public" if public else "private"
        self._fill(image, data)
        return str(image["id"])

    def _make(self, asked: Body, owner: str) -> Body:
        id_ = str(asked.get("id") or new_id())
        moment = now()
        image: Body = {
            **{name: value for name, value in asked.items() if name not in _BASE},
            "name": asked.get("name"),
            "disk_format": asked.get("disk_format"),
            "container_format": asked.get("container_format"),
            "visibility": asked.get("visibility", "shared"),
            "size": None,
            "virtual_size": None,
            "status": "queued",
            "checksum": None,
            "protected": asked.get("protected", False),
            "min_ram": asked.get("min_ram", 0),
            "min_disk": asked.get("min_disk", 0),
            "owner": owner,
            "os_hidden": asked.get("os_hidden", False),
            "os_hash_algo": None,
            "os_hash_value": None,
            "id": id_,
            "created_at": moment,
            "updated_at": moment,
            "tags": list(asked.get("tags", [])),
            "self": f"/v2/images/{id_}",
            "file": f"/v2/images/{id_}/file",
            "schema": "/v2/schemas/image",
        }
        self.images[id_] = image
        return image

    def create(self, call: Call) -> Response:
        asked = dict(call.body)
        wrong = [name for name in asked if name in _READ_ONLY - {"id"}]
        if wrong:
            raise Refused(403, f"Attribute '{wrong[0]}' is read-only.")
        if asked.get("id") in self.images:
            raise Refused(409, f"Image ID {asked['id']} already exists!")
        odd = [name for name, value in asked.items() if name not in _BASE and not isinstance(value, str)]
        if odd:
            said = f"Provided object does not match schema 'image': {asked[odd[0]]} is not of type 'string'"
            raise Refused(400, said)
        image = self._make(asked, str(asked.get("owner") or call.caller.project_id))
        return JSONResponse(image, 201, {"Location": f"{call.base}{self.path}/v2/images/{image['id']}"})

    def upload(self, call: Call) -> Response:
        image = self._own(call, "upload")
        if image["status"] != "queued":
            said = f"Image status transition from {image['status']} to saving is not allowed"
            raise Refused(409, said)
        self._fill(image, call.raw)
        return Response(status_code=204, media_type="text/html")

    def _fill(self, image: Body, data: bytes) -> None:
        self.data[image["id"]] = data
        image |= {
            "size": len(data),
            "virtual_size": len(data),
            "status": "active",
            "checksum": hashlib.md5(data, usedforsecurity=False).hexdigest(),
            "os_hash_algo": "sha512",
            "os_hash_value": hashlib.sha512(data).hexdigest(),
            "updated_at": now(),
            "stores": "file",
        }

    def patch(self, call: Call) -> Response:
        image = self._own(call, "modify")
        if "json-patch" not in call.request.headers.get("content-type", ""):
            raise Refused(415, "Unsupported Content-Type")
        changed = dict(image)
        for one in call.body:
            name = one["path"].removeprefix("/").replace("~1", "/").replace("~0", "~")
            if name in _READ_ONLY:
                raise Refused(403, f"Attribute '{name}' is read-only.")
            if one["op"] == "remove":
                if name not in changed:
                    raise Refused(409, f"Property {name} does not exist.")
                del changed[name]
            elif one["op"] == "replace" and name not in changed:
                raise Refused(409, f"Property {name} does not exist.")
            else:
                changed[name] = one["value"]
        changed["updated_at"] = now()
        self.images[image["id"]] = changed
        return JSONResponse(changed)

    def add_tag(self, call: Call) -> Response:
        image = self._own(call, "modify")
        if call.part("tag") not in image["tags"]:
            image["tags"].append(call.part("tag"))
        return Response(status_code=204, media_type="text/html")

    def remove_tag(self, call: Call) -> Response:
        image = self._own(call, "modify")
        if call.part("tag") not in image["tags"]:
            raise Refused(404, "The resource could not be found.")
        image["tags"].remove(call.part("tag"))
        return Response(status_code=204, media_type="text/html")

    def delete(self, call: Call) -> Response:
        image = self._own(call, "delete")
        if image["protected"]:
            raise Refused(403, f"Image {image['id']} is protected and cannot be deleted.")
        del self.images[image["id"]]
        self.data.pop(image["id"], None)
        return Response(status_code=204, media_type="text/html")
