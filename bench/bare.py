"""The rival of the API: the barest FastAPI + SQLAlchemy application that answers `show` and `list` with the same bytes.

It reads the same rows of the same SQLite file through the same pool, and uvicorn serves it under the same
settings. It does not ask who calls or what they may do, numbers no request, keeps no count, checks no policy.

`python -m bench.bare --database URL --listen HOST:PORT`
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
import uvicorn
from fastapi import FastAPI, HTTPException, Request

PAGE = 20
GIB = 1024**3
MEANING = {"healthy": "answers queries"}
PORTS = {"postgresql": 5432, "mariadb": 3306, "valkey": 6379, "redis": 6379}


def application(url: str) -> FastAPI:
    app = FastAPI()
    database = sa.create_engine(url, pool_size=10, max_overflow=30)
    instances = sa.Table("instances", sa.MetaData(), autoload_with=database)
    own = instances.c.deleted_at.is_(None)

    @contextmanager
    def reading() -> Iterator[sa.Connection]:
        with database.connect() as connection:
            yield connection

    @app.get("/v1.0/{project_id}/instances/{instance_id}")
    def show(request: Request, project_id: str, instance_id: str) -> dict[str, Any]:
        query = sa.select(instances).where(
            instances.c.id == instance_id, instances.c.project_id == project_id, own
        )
        with reading() as connection:
            row = connection.execute(query).first()
        if row is None:
            raise HTTPException(404)
        return {"instance": detail(request, row)}

    @app.get("/v1.0/{project_id}/instances")
    def page(request: Request, project_id: str, marker: str | None = None) -> dict[str, Any]:
        query = sa.select(instances).where(instances.c.project_id == project_id, own)
        if marker is not None:
            query = query.where(instances.c.id > marker)
        with reading() as connection:
            rows = connection.execute(query.order_by(instances.c.id).limit(PAGE + 1)).all()
        shown = rows[:PAGE]
        newest_first = sorted(shown, key=lambda row: row.created_at, reverse=True)
        answer: dict[str, Any] = {"instances": [summary(request, row) for row in newest_first]}
        if len(rows) > PAGE:
            base = f"{address(request)}/v1.0/{project_id}/instances"
            answer["links"] = [{"rel": "next", "href": f"{base}?marker={shown[-1].id}"}]
        return answer

    return app


def address(request: Request) -> str:
    return f"http://{request.headers['host']}"


def links(request: Request, project_id: str, collection: str, identity: str) -> list[dict[str, str]]:
    base = address(request)
    return [
        {"rel": "self", "href": f"{base}/v1.0/{project_id}/{collection}/{identity}"},
        {"rel": "bookmark", "href": f"{base}/{collection}/{identity}"},
    ]


def summary(request: Request, row: sa.Row[Any]) -> dict[str, Any]:
    return {
        "id": row.id,
        "name": row.name,
        "status": "ACTIVE",
        "operating_status": row.service.upper(),
        "links": links(request, row.project_id, "instances", row.id),
        "flavor": {
            "id": row.flavor_id,
            "links": links(request, row.project_id, "flavors", row.flavor_id),
        },
        "datastore": {"type": row.datastore, "version": row.version},
        "region": "RegionOne",
        "access": row.access,
        "volume": {"size": row.volume_gb},
        "ip": [row.address],
        "addresses": [
            {"address": row.address, "type": "private", "network": "local", "port": PORTS[row.datastore]}
        ],
    }


def detail(request: Request, row: sa.Row[Any]) -> dict[str, Any]:
    view = summary(request, row)
    view["datastore"]["version_number"] = row.server_version
    view["created"] = date(row.created_at)
    view["updated"] = date(row.updated_at)
    view["service_status_updated"] = date(row.reported_at)
    view["volume"]["used"] = round(row.volume_used_bytes / GIB, 3)
    view["volume"]["used_percent"] = round(100 * row.volume_used_bytes / (row.volume_gb * GIB), 2)
    view["argosy"] = {
        "port": PORTS[row.datastore],
        "meaning": MEANING[row.service],
        "operation": None,
        **row.platform,
    }
    return view


def date(at: datetime) -> str:
    return at.replace(tzinfo=UTC).astimezone(UTC).replace(tzinfo=None, microsecond=0).isoformat()


def main() -> None:
    arguments = argparse.ArgumentParser(prog="python -m bench.bare", description="The rival of the API.")
    arguments.add_argument("--database", required=True)
    arguments.add_argument("--listen", required=True)
    asked = arguments.parse_args()
    host, _, port = asked.listen.rpartition(":")
    uvicorn.run(
        application(asked.database),
        host=host,
        port=int(port),
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
    )


if __name__ == "__main__":
    main()
