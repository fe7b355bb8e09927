"""REST against mistakes of administrators: what locks everybody out, or loses mail without a word."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from postkeep.domain.account import Rights

from tests.support.house import DOMAIN, PASSWORD, Api, open_api
from tests.wire.test_rest import FakeControl

WRITE = f"/users/write@{DOMAIN}"


class Control(FakeControl):
    def __init__(self) -> None:
        super().__init__()
        self.running["admin"] = True


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    async with open_api(tmp_path / "data", Control()) as api:
        yield api


# --- the last administrator ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "body"),
    [("DELETE", None), ("PATCH", {"enabled": False}), ("PATCH", {"rights": "read"})],
    ids=["remove", "disable", "demote"],
)
async def test_the_last_administrator_stays(api: Api, method: str, body: Any) -> None:
    root = await api.as_("root")
    refused = await root.request(method, WRITE, json=body)
    assert refused.status_code == 409
    assert "last administrator" in refused.json()["detail"]
    assert "make another one first" in refused.json()["detail"]
    account = api.house.directory.account("write")
    assert account is not None
    assert (account.enabled, account.rights) == (True, Rights.WRITE)
    # Neither a disabled administrator nor one without a password can take over.
    second = {"name": "second", "rights": "write", "password": "long enough", "enabled": False}
    assert (await root.post("/users", json=second)).status_code == 201
    assert (await root.post("/users", json={"name": "third", "rights": "write"})).status_code == 201
    assert (await root.request(method, WRITE, json=body)).status_code == 409
    assert (await root.patch("/users/second", json={"enabled": True})).status_code == 200
    assert (await root.request(method, WRITE, json=body)).status_code in (200, 204)


async def test_other_changes_of_the_last_administrator_go_on(api: Api) -> None:
    root = await api.as_("root")
    assert (await root.patch(WRITE, json={"full_name": "Last"})).status_code == 200
    assert (await root.delete("/users/read")).status_code == 204


# --- aliases ------------------------------------------------------------------------------------------


async def test_an_alias_takes_a_users_mail_only_when_told_to(api: Api) -> None:
    root = await api.as_("root")
    body = {"pattern": "Alice", "targets": ["none"]}
    refused = await root.post("/aliases", json=body)
    assert refused.status_code == 409
    assert f"there is a user alice@{DOMAIN}" in refused.json()["detail"]
    assert "override" in refused.json()["detail"]
    check = {"address": f"alice@{DOMAIN}"}
    assert (await root.get("/aliases/check", params=check)).json()["users"] == [f"alice@{DOMAIN}"]
    assert (await root.post("/aliases", json={**body, "override": True})).status_code == 201
    assert (await root.get("/aliases/check", params=check)).json()["users"] == [f"none@{DOMAIN}"]


@pytest.mark.parametrize("override", [False, True])
async def test_a_users_own_alias_is_never_taken(api: Api, override: bool) -> None:
    body = {"pattern": "ally", "targets": ["none"], "override": override}
    refused = await (await api.as_("root")).post("/aliases", json=body)
    assert refused.status_code == 409
    assert "alias of a user's account" in refused.json()["detail"]


async def test_targets_that_lead_nowhere_are_told(api: Api) -> None:
    root = await api.as_("root")
    added = await root.post("/aliases", json={"pattern": "a", "targets": ["alice", "nobody", "b"]})
    assert added.status_code == 201
    assert added.json()["warnings"] == [
        f"there is no user nobody@{DOMAIN}, mail to it is refused",
        f"there is no user b@{DOMAIN}, mail to it is refused",
    ]
    added = await root.post("/aliases", json={"pattern": "b", "targets": ["a"]})
    assert added.json()["warnings"] == [
        f"b@{DOMAIN} leads in a loop, mail to it is refused",
        f"there is no user nobody@{DOMAIN}, mail to it is refused",
    ]
    changed = await root.patch(f"/aliases/{DOMAIN}/a", json={"targets": ["b"]})
    assert changed.json()["warnings"] == [f"a@{DOMAIN} leads in a loop, mail to it is refused"]
    check = (await root.get("/aliases/check", params={"address": "a"})).json()
    assert (check["found"], check["loop"], check["users"]) == (False, True, [])
    changed = await root.patch(f"/aliases/{DOMAIN}/a", json={"targets": ["alice", "far@elsewhere.test"]})
    assert changed.json()["warnings"] == []


async def test_a_copy_to_somebody_else_is_no_loop(api: Api) -> None:
    root = await api.as_("root")
    body = {"pattern": "alice", "targets": ["alice", "none"], "override": True}
    assert (await root.post("/aliases", json=body)).json()["warnings"] == []
    check = (await root.get("/aliases/check", params={"address": "alice"})).json()
    assert (check["found"], check["loop"]) == (True, False)


# --- services -----------------------------------------------------------------------------------------


async def test_the_administration_does_not_stop_itself_unless_forced(api: Api) -> None:
    client = await api.as_("write")
    refused = await client.post("/services/admin/stop")
    assert refused.status_code == 409
    assert "force" in refused.json()["detail"]
    stopped = await client.post("/services/admin/stop", params={"force": True})
    assert stopped.json()["running"] is False


async def test_the_command_line_may_stop_the_administration(api: Api) -> None:
    stopped = await (await api.as_("root")).post("/services/admin/stop")
    assert stopped.json()["running"] is False


# --- guessing -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["alice", f"Alice@{DOMAIN}", "2001:db8::1", "192.0.2.9"])
async def test_one_is_unlocked_by_the_name_people_use(api: Api, name: str) -> None:
    root, guard = await api.as_("root"), api.house.authenticator.guard
    peer = name if name[0].isdigit() else "192.0.2.200"
    for _ in range(10):
        guard.fail(peer, "IMAP", f"alice@{DOMAIN}")
    assert len((await root.get("/blocks")).json()) == 2
    users = {one["name"]: one["locked"] for one in (await root.get("/users")).json()["items"]}
    assert users["alice"]
    assert (await root.delete(f"/blocks/{name}")).status_code == 204
    assert len((await root.get("/blocks")).json()) == 1
    assert (await root.delete(f"/blocks/{name}")).status_code == 404


async def test_logs_name_services_alike_and_tell_of_an_empty_name(api: Api) -> None:
    client = await api.as_("nobody")
    assert (await client.get("/users", auth=("", PASSWORD))).status_code == 401
    api.house.logs.security.flush()
    text = (api.house.store_folder / "logs" / "security.log").read_text()
    assert "Failed Administration login from 127.0.0.1, no user name: " in text


# --- importing ----------------------------------------------------------------------------------------


async def test_status_tells_how_far_an_import_is(api: Api) -> None:
    root, hashes = await api.as_("root"), api.house.authenticator.hashes
    gate, waits = asyncio.Semaphore(2), asyncio.Event()

    async def make(password: str) -> str:
        if gate.locked():
            waits.set()
        await gate.acquire()
        return "$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHQ$c29tZWhhc2hzb21laGFzaA"

    hashes.make = make  # type: ignore[method-assign]
    users = [{"name": f"u{number}", "password": "long enough"} for number in range(5)]
    adding = asyncio.create_task(root.post("/users/batch", json={"users": users}))
    await waits.wait()
    status = (await root.get("/status")).json()
    assert (status["passwords_hashed"], status["passwords_to_hash"]) == (2, 5)
    for _ in range(3):
        gate.release()
    assert (await adding).json() == {"added": 5}
    status = (await root.get("/status")).json()
    assert (status["passwords_hashed"], status["passwords_to_hash"]) == (0, 0)
