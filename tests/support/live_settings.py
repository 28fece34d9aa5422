"""What a running server uses for a parameter, asked as its root with its own driver."""

from __future__ import annotations

import ssl
from typing import Any

import psycopg
import pymysql

from tests.support.server import Client, Server


class Root:
    """The root account of an instance, enabled for a test."""

    def __init__(self, argosy: Server, client: Client, instance: dict[str, Any]) -> None:
        answer = client.post(f"/instances/{instance['id']}/root")
        assert answer.status_code == 200, answer.text
        self._user: str = answer.json()["user"]["name"]
        self._password: str = answer.json()["user"]["password"]
        self._client = client
        self._instance_id: str = instance["id"]
        self._datastore: str = instance["datastore"]["type"]
        self._address: str = instance["ip"][0]
        self._ca = str(argosy.home / "database-ca.crt")

    def setting(self, name: str) -> str:
        """As the server writes it."""
        return {"postgresql": self._postgresql, "mariadb": self._mariadb, "valkey": self._valkey}[
            self._datastore
        ](name)

    def _postgresql(self, name: str) -> str:
        with psycopg.connect(
            host=self._address,
            user=self._user,
            password=self._password,
            dbname="postgres",
            sslmode="verify-full",
            sslrootcert=self._ca,
        ) as session:
            row = session.execute("SELECT current_setting(%s)", (name,)).fetchone()
        assert row is not None
        return str(row[0])

    def _mariadb(self, name: str) -> str:
        with (
            pymysql.connect(
                host=self._address,
                user=self._user,
                password=self._password,
                ssl=ssl.create_default_context(cafile=self._ca),
            ) as session,
            session.cursor() as cursor,
        ):
            cursor.execute("SHOW GLOBAL VARIABLES LIKE %s", (name,))
            row = cursor.fetchone()
        assert row is not None
        return str(row[1])

    def _valkey(self, name: str) -> str:
        """Nobody but the agent may ask a Valkey server for its settings."""
        answer = self._client.get(f"/instances/{self._instance_id}/parameters")
        assert answer.status_code == 200, answer.text
        return next(str(one["value"]) for one in answer.json()["parameters"] if one["name"] == name)
