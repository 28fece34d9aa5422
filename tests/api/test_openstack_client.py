"""The clients people have, against a whole server: python-openstackclient, troveclient, `trove`, openstacksdk."""

from __future__ import annotations

import json
import re
import subprocess
from typing import Any

import openstack
import psycopg
import pymysql
import pytest
from keystoneauth1 import session as keystone
from keystoneauth1.identity import v3
from troveclient import client as trove
from troveclient.apiclient import exceptions

from tests.api.conftest import Live
from tests.support.backups import wait_until_done
from tests.support.server import wait_until

DATASTORES = ["postgresql", "mariadb"]
MISSING = "no-such-thing"


def run(live: Live, command: str, *, cloud: str = "argosy", program: str = "openstack") -> str:
    """What a command prints. Fails with its error when it does."""
    done = live.server.command(program, *command.split(), cloud=cloud)
    assert done.returncode == 0, f"{command}: {done.stdout} {done.stderr}"
    return done.stdout


def ask(live: Live, command: str, *, cloud: str = "argosy") -> Any:
    """What a command prints, read as JSON."""
    return json.loads(run(live, f"{command} -f json", cloud=cloud))


def refusal(live: Live, command: str, *, cloud: str = "argosy") -> str:
    """The error of a command, which must fail, and without a traceback."""
    done: subprocess.CompletedProcess[str] = live.server.command("openstack", *command.split(), cloud=cloud)
    assert done.returncode != 0, f"{command} did not fail: {done.stdout}"
    assert "Traceback" not in done.stderr
    return done.stderr.strip()


# Appendix A2 of the contract: the number of a command, what is typed, and what its output must hold.
# {name} and {id} are the instance's.
READS = [
    (1, "database instance list", lambda shown: {"pg", "maria"} <= {row["Name"] for row in shown}),
    (1, "database instance list --limit 1", lambda shown: len(shown) == 1),
    (
        2,
        "database instance show {name}",
        lambda shown: shown["status"] == "ACTIVE" and shown["flavor"] == "2",
    ),
    (2, "database instance show {id}", lambda shown: shown["name"] in {"pg", "maria"}),
    (43, "database configuration list", lambda shown: isinstance(shown, list)),
    (51, "database db list {name}", lambda shown: isinstance(shown, list)),
    (52, "database flavor list", lambda shown: {"db.tiny", "db.small"} <= {row["Name"] for row in shown}),
    (53, "database flavor show 2", lambda shown: (shown["name"], shown["ram"]) == ("db.small", 512)),
    (40, "database configuration default {name}", lambda shown: shown["max_connections"] in {"102", "103"}),
    (
        46,
        "database configuration parameter list {version} --datastore {datastore}",
        lambda shown: {"max_connections"} <= {row["Name"] for row in shown},
    ),
    (
        47,
        "database configuration parameter show {version} max_connections --datastore {datastore}",
        lambda shown: shown["type"] == "integer" and shown["max"] in {262143, 100000},
    ),
    (53, "database flavor show db.small", lambda shown: shown["id"] == 2),
    (63, "database root show {name}", lambda shown: shown["is_root_enabled"] in {False, True}),
    (67, "database user list {name}", lambda shown: isinstance(shown, list)),
    (73, "datastore list", lambda shown: {"mariadb", "postgresql"} <= {row["Name"] for row in shown}),
    (74, "datastore show {datastore}", lambda shown: shown["name"] in DATASTORES),
    (76, "datastore version list {datastore}", lambda shown: len(shown) >= 2),
    (
        77,
        "datastore version show {version} --datastore {datastore}",
        lambda shown: shown["name"] in {"17", "11.8"},
    ),
]


@pytest.mark.parametrize("datastore", DATASTORES)
@pytest.mark.parametrize(
    ("number", "command", "holds"), READS, ids=[f"{number}-{command}" for number, command, _ in READS]
)
def test_a_command_that_reads_shows_what_is_there(
    live: Live, datastore: str, number: int, command: str, holds: Any
) -> None:
    instance = live.instances[datastore]
    typed = command.format(
        name=instance["name"],
        id=instance["id"],
        datastore=datastore,
        version=instance["datastore"]["version"],
    )
    shown = ask(live, typed)
    assert holds(shown), shown


FAILURES = [
    (2, f"database instance show {MISSING}", "No instance with a name or ID"),
    (3, "database instance create x --flavor 2 --size 1 --datastore nothing", "HTTP 404"),
    (3, "database instance create x --flavor 99 --size 1", "flavor"),
    (3, "database instance create x --flavor 2 --size 100000", "HTTP 413"),
    (
        3,
        "database instance create x --flavor 2 --size 1 --datastore mariadb --datastore-version 1",
        "HTTP 400",
    ),
    (3, "database instance create x --replica-of maria", "Replicas are not supported yet. (HTTP 501)"),
    (4, f"database instance delete {MISSING}", MISSING),
    (5, "database instance force delete maria", "HTTP 403"),
    (6, "database instance reset status maria", "HTTP 403"),
    (7, "database instance resize flavor maria 2", "has flavor 2 (db.small) already"),
    (7, "database instance resize flavor maria 99", "No flavor with a name or ID of '99' exists."),
    (8, "database instance resize volume maria 1", "it must be larger than the 1 GB"),
    (8, "database instance resize volume maria 100000", "HTTP 413"),
    (11, "database instance upgrade maria 10.11", "HTTP 400"),
    (12, "database instance detach maria", "Detaching a replica is not supported yet. (HTTP 501)"),
    (13, "database instance promote maria", "Promoting a replica is not supported yet. (HTTP 501)"),
    (14, "database instance eject maria", "Ejecting a replica source is not supported yet. (HTTP 501)"),
    (15, "database instance reboot {id}", "HTTP 401"),
    (17, f"database backup create b --instance maria --parent {MISSING}", "cannot be found"),
    (18, f"database backup delete {MISSING}", MISSING),
    (20, f"database backup list instance {MISSING}", MISSING),
    (21, f"database backup show {MISSING}", "No backup with a name or ID"),
    (34, f"database cluster show {MISSING}", "No cluster with a name or ID"),
    (37, f"database configuration attach maria {MISSING}", MISSING),
    (48, f"database configuration show {MISSING}", MISSING),
    (49, "database db create maria mysql", "reserved"),
    (49, f"database db create {MISSING} shop", MISSING),
    (50, "database db delete maria nothing", "HTTP 404"),
    (53, "database flavor show 99", "No flavor with a name or ID"),
    (56, "database log show maria error", "HTTP 403"),
    (56, "database log show maria nothing", "HTTP 400"),
    (60, f"database quota show {'0' * 32}", "HTTP 403"),
    (63, f"database root show {MISSING}", f"No instance or cluster with a name or ID of '{MISSING}' exists."),
    (65, "database user create maria root secret", "reserved"),
    (66, "database user delete maria nobody", "HTTP 404"),
    (68, "database user show maria nobody", "HTTP 404"),
    (71, "database user revoke access maria nobody shop", "HTTP 404"),
    (74, f"datastore show {MISSING}", MISSING),
    (75, "datastore delete mariadb", "HTTP 403"),
    (77, "datastore version show 1 --datastore mariadb", "HTTP 400"),
]


@pytest.mark.parametrize(
    ("number", "command", "told"), FAILURES, ids=[f"{number}-{command}" for number, command, _ in FAILURES]
)
def test_a_command_that_cannot_be_says_why(live: Live, number: int, command: str, told: str) -> None:
    assert told in refusal(live, command.format(id=live.instances["mariadb"]["id"]))


@pytest.mark.parametrize("datastore", DATASTORES)
def test_databases_are_made_listed_and_deleted(live: Live, datastore: str) -> None:
    name = live.instances[datastore]["name"]
    run(live, f"database db create {name} ledger")
    assert {"Name": "ledger"} in ask(live, f"database db list {name}")
    assert "already exists" in refusal(live, f"database db create {name} ledger")
    run(live, f"database db delete {name} ledger")
    assert {"Name": "ledger"} not in ask(live, f"database db list {name}")


def test_backups_are_made_listed_shown_restored_and_deleted(live: Live) -> None:
    maria = live.instances["mariadb"]
    made = ask(live, "database backup create nightly --instance maria --description before-christmas")
    assert made["status"] == "NEW"
    assert wait_until_done(live.demo, made["id"])["status"] == "COMPLETED"
    later = ask(live, f"database backup create later --instance maria --incremental --parent {made['id']}")
    assert wait_until_done(live.demo, later["id"])["parent_id"] == made["id"]
    for command in ("database backup list", "database backup list instance maria"):
        assert {row["Name"] for row in ask(live, command)} == {"nightly", "later"}
    for words, names in (
        ("--limit 1", {"later"}),
        ("--limit 1 --marker 1", {"nightly"}),
        ("--instance maria", {"nightly", "later"}),
        ("--instance-id " + maria["id"], {"nightly", "later"}),
        ("--datastore mariadb", {"nightly", "later"}),
        ("--datastore valkey", set()),
    ):
        assert {row["Name"] for row in ask(live, f"database backup list {words}")} == names, words
    assert "HTTP 403" in refusal(live, "database backup list --all-projects")
    assert ask(live, "database backup list", cloud="argosy-admin") == []
    everybody = ask(live, "database backup list --all-projects", cloud="argosy-admin")
    assert {row["Name"] for row in everybody} == {"nightly", "later"}
    of_demo = f"database backup list --project-id {live.demo.project_id}"
    assert len(ask(live, of_demo, cloud="argosy-admin")) == 2
    shown = ask(live, "database backup show later")
    assert (shown["instance_id"], shown["parent_id"]) == (maria["id"], made["id"])
    run(live, f"database backup strategy create --instance-id {maria['id']} --swift-container vault")
    (strategy,) = ask(live, "database backup strategy list")
    assert "vault" in strategy.values()
    run(live, f"database backup strategy delete --instance-id {maria['id']}")
    assert ask(live, "database backup strategy list") == []
    copy = ask(
        live,
        "database instance create copy --flavor 1 --size 1 --datastore mariadb --backup later "
        f"--datastore-version {maria['datastore']['version']}",
    )
    live.server.wait_until_healthy(live.demo, copy["id"])
    run(live, "database instance delete copy")
    assert "Unable to delete" in refusal(live, "database backup delete nightly")
    run(live, "database backup delete later")
    wait_until("it is deleted", lambda: live.demo.get(f"/backups/{later['id']}").status_code == 404)
    run(live, "database backup delete nightly")
    wait_until("it is deleted", lambda: live.demo.get(f"/backups/{made['id']}").status_code == 404)


def log_in(live: Live, datastore: str, user: str, password: str, database: str) -> None:
    """Raises the driver's error unless the user can query the database."""
    address = live.instances[datastore]["ip"][0]
    if datastore == "postgresql":
        with psycopg.connect(host=address, user=user, password=password, dbname=database) as connection:
            connection.execute("SELECT 1")
    else:
        with pymysql.connect(host=address, user=user, password=password, database=database):
            pass


REFUSED = (psycopg.OperationalError, pymysql.err.OperationalError)


@pytest.mark.parametrize("datastore", DATASTORES)
def test_a_user_is_made_let_in_renamed_shut_out_and_deleted(live: Live, datastore: str) -> None:
    name = live.instances[datastore]["name"]
    run(live, f"database db create {name} cargo")
    run(live, f"database user create {name} ann s3cretpw --databases cargo")
    log_in(live, datastore, "ann", "s3cretpw", "cargo")
    assert {"Name": "ann", "Host": "%", "Databases": "cargo"} in ask(live, f"database user list {name}")
    assert ask(live, f"database user show {name} ann")["name"] == "ann"
    assert ask(live, f"database user show access {name} ann") == [{"Name": "cargo"}]
    run(live, f"database user update attributes {name} ann --new_name bob --new_password n3wpassw")
    log_in(live, datastore, "bob", "n3wpassw", "cargo")
    run(live, f"database user revoke access {name} bob cargo")
    with pytest.raises(REFUSED):
        log_in(live, datastore, "bob", "n3wpassw", "cargo")
    assert "HTTP 404" in refusal(live, f"database user revoke access {name} bob cargo")
    run(live, f"database user grant access {name} bob cargo")
    log_in(live, datastore, "bob", "n3wpassw", "cargo")
    run(live, f"database user delete {name} bob")
    assert "HTTP 404" in refusal(live, f"database user show {name} bob")
    run(live, f"database db delete {name} cargo")


def test_a_mariadb_user_of_one_host_is_another_user(live: Live) -> None:
    run(live, "database user create maria eve s3cretpw --host 10.0.0.%")
    assert ask(live, "database user show maria eve --host 10.0.0.%")["host"] == "10.0.0.%"
    assert "HTTP 404" in refusal(live, "database user show maria eve")
    run(live, "database user delete maria eve --host 10.0.0.%")


@pytest.mark.parametrize("datastore", DATASTORES)
def test_root_is_enabled_with_a_password_and_disabled(live: Live, datastore: str) -> None:
    name = live.instances[datastore]["name"]
    database = "postgres" if datastore == "postgresql" else "mysql"
    first = ask(live, f"database root enable {name}")
    assert first["name"] == "root"
    assert re.fullmatch(r"[A-Za-z0-9]{36}", first["password"])
    log_in(live, datastore, "root", first["password"], database)
    assert ask(live, f"database root enable {name} --root_password myownpw1")["password"] == "myownpw1"
    log_in(live, datastore, "root", "myownpw1", database)
    assert ask(live, f"database root show {name}") == {"is_root_enabled": True}
    run(live, f"database root disable {name}")
    assert ask(live, f"database root show {name}") == {"is_root_enabled": False}
    with pytest.raises(REFUSED):
        log_in(live, datastore, "root", "myownpw1", database)
    assert "HTTP 404" in refusal(live, f"database root disable {name}")
    history = live.admin.get(f"/mgmt/instances/{live.instances[datastore]['id']}/root").json()
    assert history["root_history"]["enabled"] != "Never"


def test_a_configuration_group_is_followed_through_its_life(live: Live) -> None:
    maria = live.instances["mariadb"]["id"]

    def connections() -> str:
        settings = live.demo.get(f"/instances/{maria}/parameters").json()["parameters"]
        return str(next(one["value"] for one in settings if one["name"] == "max_connections"))

    def becomes(value: str) -> None:
        live.server.wait_until_healthy(live.demo, maria)
        assert connections() == value

    before = connections()
    made = ask(
        live,
        'database configuration create tuned {"max_connections":55} --datastore mariadb --datastore-version 11.8 '
        "--description words",
    )
    assert json.loads(made["values"]) == {"max_connections": 55}
    assert made["id"] in {row["ID"] for row in ask(live, "database configuration list")}
    assert ask(live, "database configuration show tuned")["description"] == "words"
    assert "HTTP 422" in refusal(live, 'database configuration create bad {"no_such":1} --datastore mariadb')
    run(live, "database configuration attach maria tuned")
    becomes("55")
    assert ask(live, "database instance show maria")["configuration"] == made["id"]
    assert [row["Name"] for row in ask(live, "database configuration instances tuned")] == ["maria"]
    assert "detach it first" in refusal(live, "database configuration attach maria tuned")
    assert "in use" in refusal(live, "database configuration delete tuned")
    run(live, f'database configuration parameter set {made["id"]} {{"max_connections":66}}')
    becomes("66")
    run(live, f'database configuration set {made["id"]} {{"max_connections":44}} --name retuned')
    becomes("44")
    run(live, "database configuration detach maria")
    becomes(before)
    run(live, "database configuration delete retuned")
    assert MISSING in refusal(live, f"database configuration delete {MISSING}")


def test_limits_are_told(live: Live) -> None:
    shown = run(live, "database limit list")
    assert re.search(r"max_instances\s+\|\s+-1", shown)


def test_flavors_of_a_version_are_those_it_fits_in(live: Live) -> None:
    version = ask(live, "datastore version list mariadb")[0]["ID"]
    assert ask(live, f"datastore version show {version}")["id"] == version
    listed = ask(live, f"database flavor list --datastore-type mariadb --datastore-version-id {version}")
    assert "db.small" in {row["Name"] for row in listed}


def test_an_instance_is_made_renamed_resized_restarted_and_deleted(live: Live) -> None:
    made = ask(
        live,
        "database instance create first --flavor db.tiny --size 1 --datastore valkey --datastore-version 9",
    )
    assert made["status"] == "BUILD"
    live.server.wait_until_healthy(live.demo, made["id"])
    run(live, "database instance update first --name second")
    for command, key, after in (
        ("resize flavor second db.small", "flavor", {"id": "2"}),
        ("resize volume second 2", "volume", {"size": 2}),
    ):
        run(live, f"database instance {command}")
        shown = live.server.wait_until_healthy(live.demo, made["id"])[key]
        assert {name: str(shown[name]) for name in after} == {name: str(one) for name, one in after.items()}
    run(live, "database instance restart second")
    live.server.wait_until_healthy(live.demo, made["id"])
    assert "has no databases" in refusal(live, "database db list second")
    run(live, "database instance delete second")
    live.server.wait_until_gone(live.demo, made["id"])


def test_an_administrator_sees_resets_and_force_deletes_what_is_anybodys(live: Live) -> None:
    answer = live.demo.post(
        "/instances",
        json={
            "instance": {
                "name": "doomed",
                "flavorRef": 1,
                "volume": {"size": 1},
                "datastore": {"type": "redis"},
            }
        },
    )
    doomed = answer.json()["instance"]["id"]
    live.server.wait_until_healthy(live.demo, doomed)
    everybody = ask(live, "database instance list --all-projects", cloud="argosy-admin")
    row = next(row for row in everybody if row["ID"] == doomed)
    assert row["Tenant ID"] == live.demo.project_id
    assert doomed not in {row["ID"] for row in ask(live, "database instance list", cloud="argosy-admin")}
    run(live, f"database instance reset status {doomed}", cloud="argosy-admin")
    run(live, f"database instance force delete {doomed}", cloud="argosy-admin")
    live.server.wait_until_gone(live.demo, doomed)
    gone = live.admin.get("/mgmt/instances?deleted=true").json()["instances"]
    assert doomed in {instance["id"] for instance in gone}


def test_an_administrator_gives_a_project_quotas_and_reboots_an_instance(live: Live) -> None:
    def instances(cloud: str) -> tuple[int, int]:
        shown = ask(live, f"database quota show {live.demo.project_id}", cloud=cloud)
        row = next(row for row in shown if row["Resource"] == "instances")
        return row["In Use"], row["Limit"]

    in_use, _ = instances("argosy")
    run(live, "database quota update demo instances 77", cloud="argosy-admin")
    assert instances("argosy") == instances("argosy-admin") == (in_use, 77)
    run(live, "database quota update demo instances -1", cloud="argosy-admin")
    refused = refusal(live, f"database quota update {live.demo.project_id} instances 5")
    assert "HTTP 401" in refused
    instance = live.instances["mariadb"]["id"]
    run(live, f"database instance reboot {instance}", cloud="argosy-admin")
    live.server.wait_until_healthy(live.demo, instance)


@pytest.fixture
def session(live: Live) -> keystone.Session:
    return keystone.Session(
        v3.Password(
            f"{live.server.url}/identity/v3",
            username="demo",
            password=live.server.password("demo"),
            project_name="demo",
            user_domain_name="Default",
            project_domain_name="Default",
        )
    )


@pytest.mark.filterwarnings("ignore:The osc_lib.version module is deprecated:DeprecationWarning")
def test_troveclient_speaks_to_it(live: Live, session: keystone.Session) -> None:
    client = trove.Client("1.0", session=session)
    instance = client.instances.find(name="maria")
    client.databases.create(instance, [{"name": f"d{number:02}"} for number in range(25)])
    first = client.databases.list(instance)
    assert [one.name for one in first] == [f"d{number:02}" for number in range(20)]
    rest = client.databases.list(instance, marker=first.next)
    assert [one.name for one in rest] == [f"d{number:02}" for number in range(20, 25)]
    assert rest.next is None
    odd = "ann.o'b/c%41 x"
    client.users.create(instance, [{"name": "paging", "password": "s3cretpw", "host": "10.%.%.%"}])
    client.users.create(instance, [{"name": "d.ot", "password": "s3cretpw", "databases": [{"name": "d00"}]}])
    page = client.users.list(instance, limit=1)
    assert [(one.name, one.host) for one in page] == [("d.ot", "%")]
    page = client.users.list(instance, limit=1, marker=page.next)
    assert [(one.name, one.host) for one in page] == [("paging", "10.%.%.%")]
    client.users.change_passwords(instance, [{"name": "d.ot", "password": "0therpassw"}])
    log_in(live, "mariadb", "d.ot", "0therpassw", "d00")
    with pytest.raises(exceptions.NotFound):
        client.users.change_passwords(instance, [{"name": "nobody", "password": "0therpassw"}])
    client.users.delete(instance, "paging", hostname="10.%.%.%")
    client.users.delete(instance, "d.ot")
    client.users.create(instance, [{"name": odd, "password": "s3cretpw"}])
    assert client.users.get(instance, odd).name == odd
    client.users.delete(instance, odd)
    for number in range(25):
        client.databases.delete(instance, f"d{number:02}")
    assert client.limits.list()[0].verb == "ABSOLUTE"
    assert [one.name for one in client.datastores.list()] == ["mariadb", "postgresql", "redis", "valkey"]
    with pytest.raises(exceptions.Unauthorized):
        client.mgmt_instances.list()


@pytest.mark.filterwarnings("ignore:The osc_lib.version module is deprecated:DeprecationWarning")
def test_troveclient_backs_up_and_registers(live: Live, session: keystone.Session) -> None:
    client = trove.Client("1.0", session=session)
    maria = client.instances.find(name="maria")
    assert client.backups.list() == []
    version = client.datastore_versions.get("mariadb", maria.datastore["version"])
    made = [client.backups.create("one", maria, description="by hand").id]
    wait_until_done(live.demo, made[0])
    made.append(client.backups.create("two", maria, incremental=True).id)
    assert wait_until_done(live.demo, made[1])["parent_id"] == made[0]
    page = client.backups.list(limit=1)
    rest = client.backups.list(limit=1, marker=page.next)
    assert [one.id for one in [*page, *rest]] == made[::-1]
    assert [one.name for one in client.instances.backups(maria)] == ["two", "one"]
    location = client.backups.get(made[1]).locationRef
    client.backups.delete(made[1])
    wait_until("it is deleted", lambda: live.demo.get(f"/backups/{made[1]}").status_code == 404)
    with pytest.raises(exceptions.BadRequest, match="no whole backup of this project"):
        client.backups.create(
            "three", None, restore_from=location, restore_ds_version=version.id, restore_size=1
        )
    client.backup_strategies.create(swift_container="vault")
    assert [one.swift_container for one in client.backup_strategies.list()] == ["vault"]
    client.backup_strategies.delete()
    assert client.backup_strategies.list() == []
    client.backups.delete(made[0])
    wait_until("it is deleted", lambda: client.backups.list() == [])


def test_the_legacy_shell_speaks_to_it(live: Live) -> None:
    credentials = (
        f"--os-auth-url {live.server.url}/identity/v3 --os-username demo --os-project-name demo "
        f"--os-password {live.server.password('demo')} --os-region-name RegionOne "
        "--os-user-domain-name Default --os-project-domain-name Default"
    )
    for command, told in (
        ("list", "maria"),
        ("show maria", "ACTIVE"),
        ("flavor-list", "db.small"),
        ("datastore-version-list mariadb", "11.8"),
        ("limit-list", "ABSOLUTE"),
        ("database-list maria", "Name"),
    ):
        assert told in run(live, f"{credentials} {command}", program="trove")


@pytest.mark.filterwarnings("ignore::openstack.warnings.RemovedInSDK50Warning")
def test_openstacksdk_speaks_to_it(live: Live, session: keystone.Session) -> None:
    database = openstack.connection.Connection(session=session, region_name="RegionOne").database
    instance = database.find_instance("maria", ignore_missing=False)
    assert {one.name for one in database.instances()} >= {"pg", "maria"}
    database.create_database(instance, name="sdk")
    assert "sdk" in {one.name for one in database.databases(instance)}
    database.create_user(instance, name="sam", password="s3cretpw", databases=[{"name": "sdk"}])
    assert "sam" in {one.name for one in database.users(instance)}
    log_in(live, "mariadb", "sam", "s3cretpw", "sdk")
    database.delete_user("sam", instance=instance)
    database.delete_database("sdk", instance=instance)
    assert {one.name for one in database.flavors()} >= {"db.tiny"}
    made = database.create_instance(
        name="by-sdk", flavor="1", volume={"size": 1}, datastore={"type": "valkey", "version": "9"}
    )
    live.server.wait_until_healthy(live.demo, made.id)
    made.restart(database)
    live.server.wait_until_healthy(live.demo, made.id)
    database.delete_instance(made.id)
    live.server.wait_until_gone(live.demo, made.id)


def test_an_image_is_pulled_as_an_operation(live: Live) -> None:
    asked = {"image": {"datastore": "valkey", "version": "9"}}
    assert live.demo.post("/images", json=asked).status_code == 403
    operation = live.admin.post("/images", json=asked).json()["operation"]
    ended = wait_until(
        "the pull has ended",
        lambda: (
            (shown := live.admin.get(f"/operations/{operation['id']}").json()["operation"])["ended"] and shown
        ),
    )
    assert (ended["state"], ended["instance_id"]) == ("succeeded", None)
    images = live.demo.get("/images").json()["images"]
    state = {(image["datastore"], image["version"]): image["phase"] for image in images}
    assert state["valkey", "9"] == "ready"


def test_the_authority_verifies_the_servers(live: Live, tmp_path: Any) -> None:
    authority = tmp_path / "ca.pem"
    authority.write_text(live.demo.get("/certificate-authority").json()["certificate_authority"]["pem"])
    maria = live.instances["mariadb"]["id"]
    live.demo.post(f"/instances/{maria}/users", json={"users": [{"name": "tls", "password": "s3cretpw"}]})
    address = live.instances["mariadb"]["ip"][0]
    with pymysql.connect(
        host=address, user="tls", password="s3cretpw", ssl_ca=str(authority), ssl_verify_identity=True
    ) as connection:
        assert connection.open
    live.demo.delete(f"/instances/{maria}/users/tls")
