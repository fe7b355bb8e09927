"""The REST API: every route at every level of rights, and what it must refuse."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute
from postkeep.domain.address import Address
from postkeep.protocols.http.access import BATCH_LIMIT, BODY_LIMIT
from postkeep.queue.queue import QueuedRecipient

from tests.support.house import DOMAIN, LEVELS, OTHER, Api, FakeControl, open_api


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    async with open_api(tmp_path / "data", FakeControl()) as api:
        yield api


async def queued(api: Api) -> str:
    """A message in the queue that nobody can deliver (no resolver answers for .invalid)."""
    prepared = await api.house.queue.prepare(
        Address("alice", DOMAIN), [QueuedRecipient(Address("far", "elsewhere.invalid"))], [b"x\r\n"],
        size=3, smtputf8=False, eight_bit=False,
    )  # fmt: skip
    entry = prepared.entry
    api.house.queue._entries[entry.id] = entry  # known to it, but not handed to delivery
    return prepared.id


# Method, path, body; then the answer for root, write, read, domain, none, nobody.
ROUTES: list[tuple[str, str, Any, tuple[int, ...]]] = [
    ("GET", "/setup", None, (200, 200, 200, 200, 200, 200)),
    ("GET", "/openapi.json", None, (200, 200, 200, 200, 200, 200)),
    ("GET", "/session", None, (200, 200, 200, 200, 403, 401)),
    ("DELETE", "/session", None, (204, 204, 204, 204, 403, 401)),
    ("GET", "/domains", None, (200, 200, 200, 200, 403, 401)),
    ("POST", "/domains", {"name": "new.test"}, (201, 201, 403, 403, 403, 401)),
    ("GET", f"/domains/{DOMAIN}", None, (200, 200, 200, 200, 403, 401)),
    ("GET", f"/domains/{OTHER}", None, (200, 200, 200, 404, 403, 401)),
    ("PATCH", f"/domains/{DOMAIN}", {"description": "x"}, (200, 200, 403, 403, 403, 401)),
    ("DELETE", f"/domains/{OTHER}", None, (409, 409, 403, 403, 403, 401)),  # it has a user
    ("GET", "/users", None, (200, 200, 200, 200, 403, 401)),
    ("POST", "/users", {"name": "carl", "password": "long enough"}, (201, 201, 403, 201, 403, 401)),
    ("POST", "/users", {"name": "carl", "domain": OTHER}, (201, 201, 403, 403, 403, 401)),
    ("POST", "/users", {"name": "carl", "rights": "write"}, (201, 201, 403, 403, 403, 401)),
    ("POST", "/users/batch", {"users": [{"name": "b1"}, {"name": "b2"}]}, (201, 201, 403, 201, 403, 401)),
    ("GET", "/users/alice", None, (200, 200, 200, 200, 403, 401)),
    ("GET", f"/users/zoe@{OTHER}", None, (200, 200, 200, 404, 403, 401)),
    ("PATCH", "/users/alice", {"full_name": "A"}, (200, 200, 403, 200, 403, 401)),
    ("PATCH", f"/users/zoe@{OTHER}", {"full_name": "Z"}, (200, 200, 403, 403, 403, 401)),
    ("PATCH", "/users/write", {"full_name": "W"}, (200, 200, 403, 403, 403, 401)),
    ("PUT", "/users/alice/password", {"password": "another one"}, (204, 204, 403, 204, 403, 401)),
    ("PUT", "/users/write/password", {"password": "another one"}, (204, 204, 403, 403, 403, 401)),
    ("DELETE", "/users/alice", None, (204, 204, 403, 204, 403, 401)),
    ("DELETE", "/users/read", None, (204, 204, 403, 403, 403, 401)),
    ("GET", "/aliases", None, (200, 200, 200, 200, 403, 401)),
    ("POST", "/aliases", {"pattern": "new", "targets": ["alice"]}, (201, 201, 403, 201, 403, 401)),
    ("POST", "/aliases", {"pattern": "n", "domain": OTHER, "targets": ["zoe"]}, (201, 201, 403, 403, 403, 401)),
    # ADM-3: an alias of a user's name takes that user's mail.
    ("POST", "/aliases", {"pattern": "write", "targets": ["alice"], "override": True}, (201, 201, 403, 403, 403, 401)),
    ("POST", "/aliases", {"pattern": "READ", "targets": ["x@evil.test"], "override": True}, (201, 201, 403, 403, 403, 401)),
    ("POST", "/aliases", {"pattern": "none", "targets": ["alice"], "override": True}, (201, 201, 403, 201, 403, 401)),
    ("POST", "/aliases", {"pattern": "postmaster", "targets": ["alice"]}, (201, 201, 403, 403, 403, 401)),
    ("POST", "/aliases", {"pattern": "*", "targets": ["alice"]}, (201, 201, 403, 201, 403, 401)),
    ("POST", "/users", {"name": "postmaster"}, (201, 201, 403, 403, 403, 401)),
    ("POST", "/users", {"name": "carl", "aliases": ["PostMaster"]}, (201, 201, 403, 403, 403, 401)),
    ("PATCH", "/users/alice", {"aliases": ["postmaster"]}, (200, 200, 403, 403, 403, 401)),
    ("GET", f"/aliases/check?address=sales@{DOMAIN}", None, (200, 200, 200, 200, 403, 401)),
    ("GET", f"/aliases/check?address=zoe@{OTHER}", None, (200, 200, 200, 404, 403, 401)),
    ("PATCH", f"/aliases/{DOMAIN}/sales", {"targets": ["alice"]}, (200, 200, 403, 200, 403, 401)),
    ("DELETE", f"/aliases/{DOMAIN}/sales", None, (204, 204, 403, 204, 403, 401)),
    ("GET", "/queue", None, (200, 200, 200, 403, 403, 401)),
    ("POST", "/queue/retry", None, (204, 204, 403, 403, 403, 401)),
    ("POST", "/queue/{id}/retry", None, (204, 204, 403, 403, 403, 401)),
    ("DELETE", "/queue/{id}", None, (204, 204, 403, 403, 403, 401)),
    ("GET", "/services", None, (200, 200, 200, 403, 403, 401)),
    ("POST", "/services/imap/start", None, (200, 200, 403, 403, 403, 401)),
    ("POST", "/services/smtp/stop", None, (200, 200, 403, 403, 403, 401)),
    ("GET", "/settings", None, (200, 200, 200, 403, 403, 401)),
    ("GET", "/settings/SMTP", None, (200, 200, 200, 403, 403, 401)),
    ("PATCH", "/settings/SMTP", {"MaxRecipients": 50}, (200, 200, 403, 403, 403, 401)),
    ("GET", "/status", None, (200, 200, 200, 403, 403, 401)),
    ("GET", "/logs/security", None, (200, 200, 200, 403, 403, 401)),
    ("GET", "/blocks", None, (200, 200, 200, 403, 403, 401)),
    ("DELETE", "/blocks", None, (204, 204, 403, 403, 403, 401)),
    ("DELETE", "/blocks/192.0.2.1", None, (404, 404, 403, 403, 403, 401)),
    ("GET", "/nothing/like/this", None, (404, 404, 404, 404, 403, 401)),
]  # fmt: skip


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(("method", "path", "body", "codes"), ROUTES, ids=[f"{r[0]} {r[1]}" for r in ROUTES])
async def test_every_route_at_every_level(
    api: Api, level: str, method: str, path: str, body: Any, codes: tuple[int, ...]
) -> None:
    if "{id}" in path:
        path = path.replace("{id}", await queued(api))
    answer = await (await api.as_(level)).request(method, path, json=body)
    assert answer.status_code == codes[LEVELS.index(level)], answer.text
    if answer.is_error:
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["status"] == answer.status_code
        assert answer.json()["detail"]
    if answer.status_code == 401:
        assert answer.headers["www-authenticate"].startswith("Basic ")


async def test_no_route_is_missing_from_the_table(api: Api) -> None:
    described = (await (await api.as_("nobody")).get("/openapi.json")).json()["paths"]
    tested = [(method, path.partition("?")[0]) for method, path, _, _ in ROUTES]
    tested.append(("POST", "/session"))
    for path, methods in described.items():
        pattern = re.compile(re.sub(r"\{[^}]*\}", "[^/]+", path.removeprefix("/api/v1")))
        for method in methods:
            assert any(known == method.upper() and pattern.fullmatch(one) for known, one in tested), (
                method,
                path,
            )


async def test_the_document_describes_every_route(api: Api) -> None:
    described = api.app.openapi()["paths"]
    for route in api.app.routes:
        if isinstance(route, APIRoute) and route.include_in_schema:
            assert route.path.replace(":path", "") in described
            assert all(one.get("summary") for one in described[route.path.replace(":path", "")].values())


# --- bad input ----------------------------------------------------------------------------------------


async def test_requests_are_bounded(api: Api) -> None:
    client = await api.as_("write")
    assert (await client.post("/users", content=b"x" * (BODY_LIMIT + 1))).status_code == 413
    assert (await client.post("/users/batch", content=b"x" * (BATCH_LIMIT + 1))).status_code == 413

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 65_536

    assert (await client.post("/users", content=endless())).status_code == 413


async def test_a_body_is_not_read_before_its_sender_is_known(api: Api) -> None:
    async def never() -> AsyncIterator[bytes]:
        raise AssertionError("the body was read")
        yield b""

    assert (await (await api.as_("nobody")).post("/users", content=never())).status_code == 401


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"null", b"\xff", b"[" * 100_000, b'{"name": 5}', b'{"name": ""}', b'{"nome": "x"}',
        json.dumps({"name": "x" * 400}).encode(), json.dumps({"name": "a b"}).encode(),
        json.dumps({"name": "ok", "quota_bytes": -1}).encode(), json.dumps({"name": "ok", "domain": "no.where"}).encode(),
        json.dumps({"name": "ok", "full_name": "a\x00b"}).encode(), json.dumps({"name": "ok", "password": "short"}).encode(),
        json.dumps({"name": "ok", "password": "control\ncharacter"}).encode(), json.dumps({"name": "ok", "forwards": ["not an address"]}).encode(),
        json.dumps({"name": "ok", "aliases": ["alice"]}).encode(), json.dumps({"name": "ok", "aliases": ["a", "a"]}).encode(),
        json.dumps({"name": "ok", "aliases": ["sales"]}).encode(), json.dumps({"name": "alice"}).encode(), json.dumps({"name": "ally"}).encode(),
        json.dumps({"name": "sales"}).encode(), json.dumps({"name": "ok", "password_hash": "plain"}).encode(),
        b'{"name": "\\ud800"}',
    ],
)  # fmt: skip
async def test_a_user_that_cannot_be(api: Api, body: bytes) -> None:
    before = api.house.configuration.users
    answer = await (await api.as_("write")).post(
        "/users", content=body, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code in (400, 404, 409, 422), answer.text
    assert answer.json()["detail"]
    assert api.house.configuration.users is before


async def test_a_refused_password_is_not_repeated(api: Api) -> None:
    answer = await (await api.as_("write")).post("/users", json={"name": "ok", "password": "Tr0ub" * 500})
    assert answer.status_code == 422
    assert "Tr0ub" not in answer.text


async def test_a_batch_is_all_or_nothing(api: Api) -> None:
    client = await api.as_("write")
    users = [{"name": f"b{number}"} for number in range(50)]
    for bad in ({"name": "alice"}, {"name": "b7"}, {"name": "x", "aliases": ["b9"]}):
        answer = await client.post("/users/batch", json={"users": [*users, bad]})
        assert answer.status_code == 409
        assert api.house.directory.account("b0") is None
    assert (await client.post("/users/batch", json={"users": users})).json() == {"added": 50}
    assert api.house.store.account_id(f"b49@{DOMAIN}") is not None


async def test_an_unexpected_error_tells_nothing_of_the_inside(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(api.house.directory, "domains", broken)
    answer = await (await api.as_("write")).get("/domains")
    assert answer.status_code == 500
    assert "secret detail" not in answer.text
    assert "secret detail" in api.house.logs.error.path.read_text()


# --- what the routes do -----------------------------------------------------------------------------------


async def test_lists_are_searched_sorted_and_paged(api: Api) -> None:
    client = await api.as_("write")
    page = (await client.get("/users", params={"search": "ARCHER"})).json()
    assert [user["name"] for user in page["items"]] == ["alice"]
    page = (await client.get("/users", params={"sort": "-name", "limit": 2, "offset": 1})).json()
    assert page["total"] == 6
    assert [user["name"] for user in page["items"]] == ["write", "read"]
    assert (await client.get("/users", params={"domain": OTHER})).json()["total"] == 1
    assert (await client.get("/users", params={"sort": "password_hash"})).status_code == 422
    assert (await client.get("/users", params={"limit": 5000})).status_code == 422
    seen = (await (await api.as_("domain")).get("/users")).json()["items"]
    assert {user["domain"] for user in seen} == {DOMAIN}
    assert [one["name"] for one in (await (await api.as_("domain")).get("/domains")).json()["items"]] == [
        DOMAIN
    ]


async def test_no_answer_shows_a_hash(api: Api) -> None:
    for path in ("/users", "/users/alice", "/settings"):
        assert "argon2" not in (await (await api.as_("root")).get(path)).text


async def test_secrets_among_the_settings_are_not_shown(api: Api) -> None:
    client = await api.as_("write")
    await client.patch("/settings/Queue", json={"RelayPassword": "hunter22"})
    assert api.house.configuration.server.queue.relay_password == "hunter22"
    assert "hunter22" not in (await client.get("/settings/Queue")).text
    api.house.logs.flush()
    assert "hunter22" not in api.house.logs.config.path.read_text()


async def test_settings_hold_at_once_or_say_so(api: Api) -> None:
    client = await api.as_("write")
    answer = (await client.patch("/settings/SMTP", json={"MaxRecipients": 50})).json()
    assert answer == {"changed": ["MaxRecipients"], "restart_needed": True}
    answer = (await client.patch("/settings/SMTP", json={"MaxRecipients": "50"})).json()
    assert answer == {"changed": [], "restart_needed": False}
    answer = (await client.patch("/settings/Security", json={"PasswordMinimumLength": 3})).json()
    assert answer == {"changed": ["PasswordMinimumLength"], "restart_needed": False}
    assert (await client.post("/users", json={"name": "ok", "password": "abc"})).status_code == 201
    for body in ({"MaxRecipients": 0}, {"MaxRecipients": [1]}, {"Nothing": 1}, {"MaxRecipients": "many"}):
        assert (await client.patch("/settings/SMTP", json=body)).status_code == 422
    assert (await client.patch("/settings/Nowhere", json={})).status_code == 404


async def test_a_domains_life(api: Api) -> None:
    client = await api.as_("root")  # whose login does not hang on which domain is primary
    assert (await client.post("/domains", json={"name": "Bücher.Test", "aliases": ["b.test"]})).json()[
        "name"
    ] == "xn--bcher-kva.test"
    for clash in ("xn--bcher-kva.test", "b.test", "example.example", OTHER):
        assert (await client.post("/domains", json={"name": clash})).status_code == 409
    for bad in ("", "no domain", "[192.0.2.1]", "-x.test", "a..b"):
        assert (await client.post("/domains", json={"name": bad})).status_code == 422
    assert (await client.delete("/domains/xn--bcher-kva.test")).status_code == 409  # it has an alias
    await client.patch("/domains/xn--bcher-kva.test", json={"aliases": [], "primary": True})
    assert api.house.directory.primary_domain == "xn--bcher-kva.test"
    assert (await client.delete("/domains/xn--bcher-kva.test")).status_code == 409  # it is primary
    assert (await client.patch("/domains/xn--bcher-kva.test", json={"primary": False})).status_code == 409
    await client.patch(f"/domains/{DOMAIN}", json={"primary": True})
    assert (await client.delete("/domains/xn--bcher-kva.test")).status_code == 204
    assert (await client.delete("/domains/xn--bcher-kva.test")).status_code == 404
    assert (await client.delete(f"/domains/{OTHER}")).status_code == 409
    await client.delete(f"/users/zoe@{OTHER}")
    assert (await client.delete(f"/domains/{OTHER}")).status_code == 204


async def test_an_aliass_life(api: Api) -> None:
    client = await api.as_("domain")
    assert (await client.post("/aliases", json={"pattern": "S?LES*", "targets": ["alice"]})).json()[
        "pattern"
    ] == "s?les*"
    check = (await client.get("/aliases/check", params={"address": f"sxlesman@{DOMAIN}"})).json()
    assert check == {
        "address": f"sxlesman@{DOMAIN}",
        "found": True,
        "loop": False,
        "users": [f"alice@{DOMAIN}"],
        "remote": [],
    }
    check = (await client.get("/aliases/check", params={"address": "sales"})).json()
    assert check["remote"] == ["far@elsewhere.example"]
    assert not (await client.get("/aliases/check", params={"address": "nobody"})).json()["found"]
    assert (
        await client.patch(f"/aliases/{DOMAIN}/s%3Fles%2A", json={"targets": ["domain"]})
    ).status_code == 200
    assert (await client.delete(f"/aliases/{DOMAIN}/s%3Fles%2A")).status_code == 204
    assert (await client.delete(f"/aliases/{DOMAIN}/s%3Fles%2A")).status_code == 404
    for bad in ({"pattern": "a b", "targets": ["alice"]}, {"pattern": "x", "targets": []}, {"pattern": "x", "targets": ["a@"]},
                {"pattern": "ally", "targets": ["alice"]}, {"pattern": "sales", "targets": ["alice"]},
                {"pattern": "x", "targets": ["#public/Info"]}):  # fmt: skip
        assert (await client.post("/aliases", json=bad)).status_code in (409, 422)


async def test_removing_a_user_removes_their_mail_unless_kept(api: Api) -> None:
    client, store = await api.as_("write"), api.house.store
    await store.create_accounts([f"alice@{DOMAIN}", f"none@{DOMAIN}"])
    await client.delete("/users/alice", params={"keep_mail": True})
    await client.delete("/users/none")
    assert store.account_id(f"alice@{DOMAIN}") is not None
    assert store.account_id(f"none@{DOMAIN}") is None


async def test_the_config_log_says_who_did_what(api: Api) -> None:
    client = await api.as_("write")
    await client.post("/users", json={"name": "carl", "password": "very secret"})
    await client.patch("/users/carl", json={"quota_bytes": 5})
    await (await api.as_("root")).delete("/users/carl")
    api.house.logs.flush()
    lines = [line.partition("] ")[2] for line in api.house.logs.config.path.read_text().splitlines()]
    assert lines == [
        f"write@{DOMAIN}: added users carl@{DOMAIN}",
        f"write@{DOMAIN}: changed user carl@{DOMAIN}: quota_bytes=5",
        f"command line: removed user carl@{DOMAIN}",
    ]


async def test_logs_are_read_and_searched(api: Api) -> None:
    for number in range(20):
        api.house.logs.mail.write(f"message {number}")
    client = await api.as_("read")
    lines = (await client.get("/logs/mail", params={"limit": 2})).json()["lines"]
    assert [line[-2:] for line in lines] == ["18", "19"]
    assert len((await client.get("/logs/mail", params={"search": "MESSAGE 1"})).json()["lines"]) == 11
    for bad in ("nothing", "..%2Fx", "mail.log"):
        assert (await client.get(f"/logs/{bad}")).status_code == 404


async def test_changes_at_once_all_count(api: Api) -> None:
    client = await api.as_("root")
    answers = await asyncio.gather(
        *(client.post("/users", json={"name": f"u{number}"}) for number in range(60))
    )
    assert [answer.status_code for answer in answers] == [201] * 60
    assert (await client.get("/users", params={"search": "u", "limit": 1000})).json()["total"] >= 60


async def test_queue_entries_are_seen_and_removed(api: Api) -> None:
    name = await queued(api)
    client = await api.as_("write")
    (entry,) = (await client.get("/queue", params={"search": "elsewhere"})).json()["items"]
    assert entry["id"] == name
    assert entry["sender"] == f"alice@{DOMAIN}"
    assert (await client.delete(f"/queue/{name}")).status_code == 204
    assert (await client.get("/queue")).json()["total"] == 0
    assert (await client.delete(f"/queue/{name}")).status_code == 404
    assert (await client.post("/queue/..%2Fx/retry")).status_code == 404


async def test_without_an_engine_services_say_so(tmp_path: Path) -> None:
    async with open_api(tmp_path / "data") as api:
        client: httpx.AsyncClient = await api.as_("root")
        for method, path in (
            ("GET", "/services"),
            ("POST", "/services/smtp/start"),
            ("POST", "/queue/retry"),
        ):
            answer = await client.request(method, path)
            assert answer.status_code == 409
            assert "postkeep serve" in answer.json()["detail"]
        answer = await client.patch("/settings/SMTP", json={"MaxRecipients": 50})
        assert not answer.json()["restart_needed"]
