"""Who may do what over REST, from where, and how long."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.house import DOMAIN, PASSWORD, Api, FakeControl, open_api


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    async with open_api(tmp_path / "data", FakeControl()) as api:
        yield api


# --- ADM-3 ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", ["write", "domain"])
@pytest.mark.parametrize(
    ("method", "body"),
    [("PATCH", {"enabled": False}), ("PATCH", {"rights": "none"}), ("DELETE", None)],
)
async def test_nobody_disables_demotes_or_deletes_themself(
    api: Api, level: str, method: str, body: Any
) -> None:
    answer = await (await api.as_(level)).request(method, f"/users/{level}", json=body)
    assert answer.status_code == 403
    account = api.house.directory.account(level)
    assert account is not None
    assert account.enabled
    assert account.rights.value == level


async def test_a_domain_administrator_cannot_rise(api: Api) -> None:
    client = await api.as_("domain")
    assert (await client.patch("/users/domain", json={"rights": "write"})).status_code == 403
    assert (await client.patch("/users/alice", json={"rights": "read"})).status_code == 403
    assert (await client.patch("/users/alice", json={"rights": "domain"})).status_code == 200


@pytest.mark.parametrize("name", ["write", "read", "postmaster"])
async def test_a_domain_administrator_cannot_take_mail_of_one_above(api: Api, name: str) -> None:
    root, client = await api.as_("root"), await api.as_("domain")
    where = {"params": {"address": f"{name}@{DOMAIN}"}}
    before = (await client.get("/aliases/check", **where)).json()
    for pattern in (name, name.upper(), f"{name[:-1]}?", "*"):
        await client.post(
            "/aliases", json={"pattern": pattern, "targets": ["thief@evil.test"], "override": True}
        )
    assert (await client.get("/aliases/check", **where)).json() == before
    # Nor turn aside what an administrator has arranged.
    await root.post("/aliases", json={"pattern": name, "targets": [name, "zoe@other.test"], "override": True})
    before = (await client.get("/aliases/check", **where)).json()
    path = f"/aliases/{DOMAIN}/{name}"
    assert (await client.patch(path, json={"targets": ["thief@evil.test"]})).status_code == 403
    assert (await client.delete(path)).status_code == 403
    assert (await client.get("/aliases/check", **where)).json() == before
    assert (await root.patch(path, json={"targets": [name]})).status_code == 200
    assert (await root.delete(path)).status_code == 204


async def test_an_own_alias_of_one_above_is_theirs_too(api: Api) -> None:
    root, client = await api.as_("root"), await api.as_("domain")
    await root.patch("/users/write", json={"aliases": ["boss"]})
    # (An alias of this name is refused to anybody: it belongs to a user's account.)
    assert (await client.post("/aliases", json={"pattern": "boss", "targets": ["alice"]})).status_code == 403
    assert (await root.post("/aliases", json={"pattern": "boss", "targets": ["alice"]})).status_code == 409


async def test_rights_taken_away_hold_at_once_even_in_a_session(api: Api) -> None:
    nobody = await api.as_("nobody")
    answer = await nobody.post("/session", json={"user": "read", "password": PASSWORD})
    bearer = {"Authorization": f"Bearer {answer.json()['token']}"}
    assert (await nobody.get("/settings", headers=bearer)).status_code == 200
    root = await api.as_("root")
    await root.patch("/users/read", json={"rights": "none"})
    assert (await nobody.get("/settings", headers=bearer)).status_code == 403
    await root.patch("/users/read", json={"enabled": False})
    assert (await nobody.get("/settings", headers=bearer)).status_code == 401


# --- sessions ---------------------------------------------------------------------------------------


async def test_a_session(api: Api) -> None:
    nobody = await api.as_("nobody")
    answer = await nobody.post("/session", json={"user": "write", "password": PASSWORD})
    assert answer.status_code == 201
    assert answer.json()["user"] == f"write@{DOMAIN}"
    assert answer.headers["cache-control"] == "no-store"
    bearer = {"Authorization": f"Bearer {answer.json()['token']}"}
    assert (await nobody.get("/session", headers=bearer)).json() == {
        "user": f"write@{DOMAIN}", "rights": "write", "domain": DOMAIN,
    }  # fmt: skip
    elsewhere = await api.as_("nobody", "::1")
    assert (await elsewhere.get("/session", headers=bearer)).status_code == 401
    # ... and a token seen at another address is over.
    assert (await nobody.get("/session", headers=bearer)).status_code == 401


@pytest.mark.parametrize("end", ["logout", "password", "removed"])
async def test_how_a_session_ends(api: Api, end: str) -> None:
    nobody, root = await api.as_("nobody"), await api.as_("root")
    answer = await nobody.post("/session", json={"user": "write", "password": PASSWORD})
    bearer = {"Authorization": f"Bearer {answer.json()['token']}"}
    match end:
        case "logout":
            assert (await nobody.delete("/session", headers=bearer)).status_code == 204
        case "password":
            await root.put("/users/write/password", json={"password": "another one"})
        case "removed":
            await root.patch("/users/read", json={"rights": "write"})  # the last one stays
            assert (await root.delete("/users/write")).status_code == 204
    assert (await nobody.get("/session", headers=bearer)).status_code == 401


async def test_a_user_without_rights_gets_no_session(api: Api) -> None:
    answer = await (await api.as_("nobody")).post("/session", json={"user": "none", "password": PASSWORD})
    assert answer.status_code == 403


async def test_guessing_is_throttled(api: Api) -> None:
    client = await api.as_("nobody")
    for number in range(10):
        answer = await client.get("/session", auth=("write", f"guess {number}"))
        assert answer.status_code == 401
    answer = await client.get("/session", auth=("write", PASSWORD))
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) > 0
    root = await api.as_("root")
    assert {block["name"] for block in (await root.get("/blocks")).json()} == {"127.0.0.1", f"write@{DOMAIN}"}
    assert (await root.get("/users/write")).json()["locked"]
    assert (await root.delete("/blocks/127.0.0.1")).status_code == 204
    assert (await root.delete(f"/blocks/write@{DOMAIN}")).status_code == 204
    assert (await client.get("/session", auth=("write", PASSWORD))).status_code == 200


@pytest.mark.parametrize(
    "value", ["Basic", "Basic !!!", "Basic eA==", "Basic /w==", "Bearer", "Bearer x", "Digest x", "x" * 9000]
)
async def test_malformed_authorization(api: Api, value: str) -> None:
    answer = await (await api.as_("nobody")).get("/users", headers={"Authorization": value})
    assert answer.status_code == 401


# --- WEB-3, other web sites ---------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/session", "/users", "/openapi.json", "/setup"])
async def test_remote_administration_is_off_at_first(api: Api, path: str) -> None:
    client = await api.as_("write", "203.0.113.5")
    assert (await client.get(path)).status_code == 403


@pytest.mark.parametrize("field", ["X-Forwarded-For", "Forwarded", "X-Real-IP"])
async def test_a_header_makes_no_peer_local(api: Api, field: str) -> None:
    value = "for=127.0.0.1" if field == "Forwarded" else "127.0.0.1"
    answer = await (await api.as_("write", "203.0.113.5")).get("/session", headers={field: value})
    assert answer.status_code == 403


async def test_a_refused_host_reads_what_to_do(api: Api) -> None:
    client = await api.as_("write", "203.0.113.5")
    answer = await client.get("/session")
    assert answer.headers["content-type"] == "application/problem+json"
    assert "postkeep setting set RemoteAdministration 1" in answer.json()["detail"]
    page = await client.get("https://admin.test/admin")
    assert page.status_code == 403
    assert page.headers["content-type"].startswith("text/plain")
    assert "postkeep setting set RemoteAdministration 1" in page.text


async def test_remote_administration_switched_on_and_limited(api: Api) -> None:
    root, far = await api.as_("root"), await api.as_("write", "203.0.113.5")
    await root.patch("/settings/Security", json={"RemoteAdministration": True})
    assert (await far.get("/session")).status_code == 200
    await root.patch("/settings/Security", json={"AdministrationNetworks": ["198.51.100.0/24"]})
    assert (await far.get("/session")).status_code == 403
    await root.patch("/settings/Security", json={"AdministrationNetworks": ["203.0.113.0/24"]})
    assert (await far.get("/session")).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
async def test_another_site_cannot_use_the_browsers_login(api: Api, headers: dict[str, str]) -> None:
    answer = await (await api.as_("write")).post("/queue/retry", headers=headers)
    assert answer.status_code == 403


async def test_our_own_pages_may(api: Api) -> None:
    headers = {"Origin": "https://admin.test", "Sec-Fetch-Site": "same-origin"}
    assert (await (await api.as_("write")).post("/queue/retry", headers=headers)).status_code == 204
