"""After an upgrade of Argosy, guests get agents of the new release, and their databases do not notice."""

from __future__ import annotations

import sqlalchemy as sa

from argosy.metadata.store import Store
from argosy.metadata.tables import instances
from tests.support.server import running, wait_until


def test_agents_of_an_older_release_are_renewed_while_their_databases_go_on() -> None:
    with running() as argosy:
        demo = argosy.client()
        instance_id = argosy.create(demo, "old", "valkey")["id"]
        server, agent = argosy.server_pid(instance_id), argosy.agent_pid(instance_id)
        store = Store(argosy.settings.database_url)

        def renewed() -> bool:
            # As if an agent of the first release had reported; the real one says otherwise every ten seconds.
            with store.write() as tx:
                tx.connection.execute(sa.update(instances).values(agent_release=1))
            asked = demo.get(f"/operations?instance_id={instance_id}&kind=instance.renew_agent").json()
            return [one["state"] for one in asked["operations"]] == ["succeeded"]

        try:
            wait_until("the agent is renewed", renewed, every_s=0.2)
        finally:
            store.close()
        argosy.wait_until_healthy(demo, instance_id)
        assert argosy.server_pid(instance_id) == server
        assert argosy.agent_pid(instance_id) != agent
