"""Mailboxes over the wire: CREATE, DELETE, RENAME, LIST and its extensions, LSUB, STATUS, NAMESPACE."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.imap import ImapClient, ImapHouse, imap_house


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[ImapHouse]:
    async with imap_house(tmp_path) as house:
        yield house


@pytest.fixture
async def client(house: ImapHouse) -> ImapClient:
    return await house.client()


async def listed(client: ImapClient, arguments: str) -> list[bytes]:
    *lines, done = await client.command(f"LIST {arguments}")
    assert done.startswith(b"OK"), done
    return [re.sub(rb"^\* LIST ", b"", line) for line in lines]


async def test_a_new_account_has_its_special_mailboxes(client: ImapClient) -> None:
    assert await listed(client, '"" *') == [
        b'(\\HasNoChildren) "/" INBOX',
        b'(\\HasNoChildren \\Drafts) "/" Drafts',
        b'(\\HasNoChildren \\Junk) "/" Junk',
        b'(\\HasNoChildren \\Sent) "/" Sent',
        b'(\\HasNoChildren \\Trash) "/" Trash',
    ]
    assert await listed(client, '"" ""') == [b'(\\Noselect) "/" ""']


async def test_hierarchy_and_wildcards(client: ImapClient) -> None:
    assert (await client.command("CREATE a/b/c/"))[-1] == b"OK CREATE completed"
    assert await listed(client, '"" a%') == [b'(\\HasChildren) "/" a']
    assert await listed(client, "a/ %") == [b'(\\HasChildren) "/" a/b']
    assert await listed(client, '"" a*') == [
        b'(\\HasChildren) "/" a',
        b'(\\HasChildren) "/" a/b',
        b'(\\HasNoChildren) "/" a/b/c',
    ]
    assert (await client.command("DELETE a/b/c"))[-1] == b"OK DELETE completed"
    assert await listed(client, '"" a/b') == [b'(\\HasNoChildren) "/" a/b']


async def test_names_in_modified_utf7_and_utf8_are_one(client: ImapClient) -> None:
    assert (await client.command("CREATE Entw&APw-rfe"))[-1].startswith(b"OK")
    assert (await client.command('CREATE "Entwürfe"'))[-1].startswith(b"NO [ALREADYEXISTS]")
    # The decomposed spelling is the same mailbox (NFC).
    assert (await client.command('STATUS "Entwu\u0308rfe" (MESSAGES)'))[
        0
    ] == b"* STATUS Entw&APw-rfe (MESSAGES 0)"
    assert await listed(client, '"" Entw*') == [b'(\\HasNoChildren) "/" Entw&APw-rfe']


async def test_names_as_quoted_strings_and_literals(client: ImapClient) -> None:
    assert (await client.command('CREATE "a \\"b\\" \\\\c"'))[-1].startswith(b"OK")
    assert await listed(client, '"" {3+}\r\na *') == [b'(\\HasNoChildren) "/" "a \\"b\\" \\\\c"']
    assert (await client.command(b'DELETE {8+}\r\na "b" \\c'))[-1].startswith(b"OK")


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ('""', b"NO [CANNOT]"),
        ("a//b", b"NO [CANNOT]"),
        ("/a", b"NO [CANNOT]"),
        ("a//", b"NO [CANNOT]"),
        ("..", b"NO [CANNOT] a level of a mailbox name cannot be"),
        ("a/../b", b"NO [CANNOT]"),
        ("INBOX/.", b"NO [CANNOT]"),
        ('"&AAE-"', b"NO [CANNOT]"),
        ("/".join("a" * 1 for _ in range(40)), b"NO [CANNOT]"),
        ("x" * 1001, b"NO [CANNOT]"),
        ("inbox", b"NO [ALREADYEXISTS]"),
        ("&AP-", b"BAD"),
        ('"\x00"', b"BAD"),
    ],
)
async def test_bad_names_are_refused(client: ImapClient, name: str, code: bytes) -> None:
    assert (await client.command(f"CREATE {name}"))[-1].startswith(code)


async def test_rename_to_a_bad_name_is_refused(client: ImapClient) -> None:
    await client.command("CREATE a")
    for name in ("..", "b/.", "b//c", "/b"):
        assert (await client.command(f"RENAME a {name}"))[-1].startswith(b"NO [CANNOT]")
    assert (await client.command("STATUS a (MESSAGES)"))[-1].startswith(b"OK")


async def test_delete_refuses_inbox_and_the_unknown(client: ImapClient) -> None:
    assert (await client.command("DELETE INBOX"))[-1].startswith(b"NO [NOPERM]")
    assert (await client.command("DELETE Nothing"))[-1].startswith(b"NO [NONEXISTENT]")


async def test_rename_takes_children_along(client: ImapClient) -> None:
    await client.command("CREATE a/b")
    assert (await client.command("RENAME a z/y"))[-1] == b"OK RENAME completed"
    names = [line.rpartition(b" ")[2] for line in await listed(client, '"" *')]
    assert {b"z", b"z/y", b"z/y/b"} <= set(names)
    assert not {b"a", b"a/b"} & set(names)
    assert (await client.command("RENAME z/y z/y/x"))[-1].startswith(b"NO [CANNOT]")
    assert (await client.command("RENAME z INBOX"))[-1].startswith(b"NO [ALREADYEXISTS]")
    assert (await client.command("RENAME gone x"))[-1].startswith(b"NO [NONEXISTENT]")


async def test_renaming_inbox_moves_its_messages_and_tells_who_has_it_open(
    house: ImapHouse, client: ImapClient
) -> None:
    await house.deliver()
    other = await house.client(select="INBOX")
    await client.command("SELECT INBOX")
    assert (await client.command("RENAME INBOX Old"))[-1] == b"OK RENAME completed"
    assert (await client.command("FETCH 1 FLAGS"))[-1].startswith(b"BAD")
    assert (await client.command("STATUS Old (MESSAGES)"))[0] == b"* STATUS Old (MESSAGES 1)"
    assert (await client.command("STATUS INBOX (MESSAGES)"))[0] == b"* STATUS INBOX (MESSAGES 0)"
    # INBOX is a new mailbox with its own UIDVALIDITY: whoever had the old one open starts anew.
    other.send(b"x NOOP\r\n")
    assert await other.closed() == b"x OK NOOP completed\r\n* BYE Mailbox was deleted\r\n"


async def test_subscriptions(client: ImapClient) -> None:
    await client.command("CREATE a/b")
    for name in ("a", "Drafts", "Junk", "Sent", "Trash"):
        assert (await client.command(f"UNSUBSCRIBE {name}"))[-1].startswith(b"OK")
    assert await client.command('LSUB "" *') == [
        b'* LSUB () "/" INBOX',
        b'* LSUB () "/" a/b',
        b"OK LSUB completed",
    ]
    # RFC 3501 §6.3.9: with % the parent stands for its subscribed child.
    assert b'* LSUB (\\Noselect) "/" a' in await client.command('LSUB "" %')
    assert (await client.command("SUBSCRIBE a"))[-1].startswith(b"OK")
    assert b'* LSUB () "/" a' in await client.command('LSUB "" %')
    assert await listed(client, '(SUBSCRIBED) "" (a% a/%)') == [
        b'(\\Subscribed \\HasChildren) "/" a',
        b'(\\Subscribed \\HasNoChildren) "/" a/b',
    ]


async def test_list_extended(client: ImapClient) -> None:
    await client.command("CREATE a/b")
    await client.command("UNSUBSCRIBE a")
    assert await listed(client, '(SUBSCRIBED RECURSIVEMATCH) "" a') == [
        b'(\\HasChildren) "/" a ("CHILDINFO" ("SUBSCRIBED"))'
    ]
    assert await listed(client, '(SPECIAL-USE) "" *') == [
        b'(\\HasNoChildren \\Drafts) "/" Drafts',
        b'(\\HasNoChildren \\Junk) "/" Junk',
        b'(\\HasNoChildren \\Sent) "/" Sent',
        b'(\\HasNoChildren \\Trash) "/" Trash',
    ]
    assert await listed(client, '"" (INBOX a/b) RETURN (SUBSCRIBED CHILDREN SPECIAL-USE)') == [
        b'(\\Subscribed \\HasNoChildren) "/" INBOX',
        b'(\\Subscribed \\HasNoChildren) "/" a/b',
    ]
    assert (await client.command('LIST (RECURSIVEMATCH) "" *'))[-1].startswith(b"BAD")
    assert (await client.command('LIST (FOO) "" *'))[-1].startswith(b"BAD")


async def test_list_status(house: ImapHouse, client: ImapClient) -> None:
    await house.deliver()
    assert await client.command('LIST "" INBOX RETURN (STATUS (MESSAGES UNSEEN))') == [
        b'* LIST (\\HasNoChildren) "/" INBOX',
        b"* STATUS INBOX (MESSAGES 1 UNSEEN 1)",
        b"OK LIST completed",
    ]


async def test_create_special_use(client: ImapClient) -> None:
    assert (await client.command("CREATE Archive (USE (\\Archive))"))[-1].startswith(b"OK")
    assert await listed(client, '"" Archive') == [b'(\\HasNoChildren \\Archive) "/" Archive']
    assert (await client.command("CREATE All (USE (\\All))"))[-1].startswith(b"NO [USEATTR]")
    assert (await client.command("CREATE More (USE (\\Sent))"))[-1].startswith(b"NO")


async def test_status_and_its_items(house: ImapHouse, client: ImapClient) -> None:
    await house.deliver(b"a: b\r\n\r\nx")
    (line, done) = await client.command(
        "STATUS inbox (MESSAGES RECENT UIDNEXT UIDVALIDITY UNSEEN HIGHESTMODSEQ SIZE APPENDLIMIT)"
    )
    assert re.fullmatch(
        rb"\* STATUS INBOX \(MESSAGES 1 RECENT 1 UIDNEXT 2 UIDVALIDITY [1-9]\d* UNSEEN 1 "
        rb"HIGHESTMODSEQ [1-9]\d* SIZE 9 APPENDLIMIT 134217728\)",
        line,
    )
    assert done == b"OK STATUS completed"
    assert (await client.command("STATUS INBOX (FOO)"))[-1].startswith(b"BAD")
    assert (await client.command("STATUS Nothing (MESSAGES)"))[-1].startswith(b"NO [NONEXISTENT]")


async def test_namespace(client: ImapClient) -> None:
    assert (await client.command("NAMESPACE"))[0] == b'* NAMESPACE (("" "/")) NIL NIL'


async def test_a_mailbox_deleted_under_a_session_ends_it(house: ImapHouse, client: ImapClient) -> None:
    await client.command("CREATE a")
    other = await house.client(select="a")
    await client.command("DELETE a")
    other.send(b"x FETCH 1 FLAGS\r\n")
    assert (await other.closed()).endswith(b"* BYE Mailbox was deleted\r\n")


async def test_deleting_ones_own_selected_mailbox_deselects_it(client: ImapClient) -> None:
    await client.command("CREATE a")
    await client.command("SELECT a")
    assert (await client.command("DELETE a"))[-1] == b"OK DELETE completed"
    assert (await client.command("FETCH 1 FLAGS"))[-1].startswith(b"BAD")
    assert (await client.command("NOOP"))[-1].startswith(b"OK")


async def test_a_renamed_mailbox_stays_selected(house: ImapHouse, client: ImapClient) -> None:
    await client.command("CREATE a")
    await client.command("SELECT a")
    await client.command("RENAME a b")
    await house.deliver(mailbox="b")
    assert b"* 1 EXISTS" in await client.command("NOOP")
