"""The cut through aiosmtpd: what we override or lean on is what we read, and the answers stay the same.

When aiosmtpd is raised: read the difference of each function named here, adapt link.py and connection.py,
then put the new hashes in.
"""

import asyncio
import hashlib
import inspect
import re
from typing import Any

import aiosmtpd
import pytest
from aiosmtpd import smtp
from aiosmtpd.smtp import MISSING, SMTP, AuthResult
from postkeep.protocols.smtp.connection import SmtpConnection
from postkeep.protocols.smtp.link import SmtpLink

from tests.support.smtp import HOST, SmtpClient, smtp_world

OVERRIDDEN = {
    "__init__", "_cb_client_connected", "_create_envelope", "_create_session", "_getaddr",
    "_handle_client", "_reset_timeout", "_timeout_cb", "auth_LOGIN", "auth_PLAIN", "connection_lost",
    "connection_made", "eof_received", "push", "smtp_AUTH", "smtp_DATA", "smtp_QUIT", "smtp_STARTTLS",
}  # fmt: skip
LEANED_ON = {
    "__del__", "_call_handler_hook", "_getparams", "_set_post_data_state", "_set_rset_state",
    "_strip_command_keyword", "_syntax_available", "check_auth_needed", "check_helo_needed",
    "smtp_EHLO", "smtp_EXPN", "smtp_HELO", "smtp_HELP", "smtp_MAIL", "smtp_NOOP", "smtp_RCPT", "smtp_RSET",
    "smtp_VRFY",
}  # fmt: skip
# name → first 16 hexadecimal digits of the SHA-256 of its source
HASHES: dict[str, str] = {
    "__del__": "bdfddff9796a4d50",
    "__init__": "8a9ca80f23ad9bf2",
    "_call_handler_hook": "6ff23a6634ea0307",
    "_cb_client_connected": "a73e95bb7f362ab9",
    "_create_envelope": "54afceea638744d4",
    "_create_session": "22b243e82ff1c7a4",
    "_getaddr": "0aeb21c56ac1260e",
    "_getparams": "ca3dd15943d34dcc",
    "_handle_client": "0e4d096403af6c74",
    "_reset_timeout": "fef19b94d28dff31",
    "_set_post_data_state": "1dc8a8abca2a8164",
    "_set_rset_state": "9ff64b71daa68e63",
    "_strip_command_keyword": "2228557170f63ec4",
    "_syntax_available": "ead0425e5d5582fd",
    "_timeout_cb": "10a7351f9bec2818",
    "auth_LOGIN": "f121f6cb809cc2ad",
    "auth_PLAIN": "71fe14c537cc5039",
    "check_auth_needed": "812bbc794078b1b0",
    "check_helo_needed": "9829bb73251c983e",
    "connection_lost": "d3bf6349bc3c25c1",
    "connection_made": "77a45df5065bba34",
    "eof_received": "baab5aaf93160933",
    "push": "15f4f1de5e30c337",
    "smtp_AUTH": "79078b308377ac48",
    "smtp_DATA": "3a33f30d3fd6d02f",
    "smtp_EHLO": "1d91592dd954c4cd",
    "smtp_EXPN": "6b2762e1ca53a846",
    "smtp_HELO": "c61e63948c38ce28",
    "smtp_HELP": "658586a0cbd741b7",
    "smtp_MAIL": "80dd938e7791acfb",
    "smtp_NOOP": "3b50ce77fba2859a",
    "smtp_QUIT": "554a1cef086ee3ac",
    "smtp_RCPT": "a0d6605883c0e608",
    "smtp_RSET": "12a5581e3d84104e",
    "smtp_STARTTLS": "6565289f4131fa13",
    "smtp_VRFY": "3fc88a3b6c62da09",
    "Session": "8e8cfc32c2b301ac",
    "Envelope": "a678e06f91b2853d",
    "AuthResult": "b6d4e1e2cb832241",
    "sanitize": "e261ae60550fffbc",
    "syntax": "9f7312554162eb89",
    "TLSSetupException": "cb274e33aef09e74",
}


def _source(name: str) -> str:
    return inspect.getsource(getattr(SMTP, name))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def test_the_pin_is_exact() -> None:
    assert aiosmtpd.__version__ == "1.4.6"


@pytest.mark.parametrize("name", sorted(OVERRIDDEN | LEANED_ON))
def test_aiosmtpd_is_what_we_read(name: str) -> None:
    assert HASHES[name] == _hash(_source(name)), f"SMTP.{name} changed: read it, adapt ours"


@pytest.mark.parametrize(
    "name", ["Session", "Envelope", "AuthResult", "sanitize", "syntax", "TLSSetupException"]
)
def test_its_helpers_are_what_we_read(name: str) -> None:
    assert HASHES[name] == _hash(inspect.getsource(getattr(smtp, name)))


def test_every_override_is_guarded() -> None:
    own = set(vars(SmtpLink)) | set(vars(SmtpConnection))
    theirs = {name for name in vars(SMTP) if inspect.isfunction(getattr(SMTP, name))}
    inherited = {"__init__", "data_received"}
    assert own & theirs - inherited <= OVERRIDDEN
    assert theirs & OVERRIDDEN == OVERRIDDEN


def test_only_commands_and_mechanisms_are_listed_for_its_search() -> None:
    names = {
        name
        for name in {*vars(SMTP), *vars(SmtpLink), *vars(SmtpConnection)}
        if name.startswith(("smtp_", "auth_"))
    }
    connection = SmtpConnection.__new__(SmtpConnection)
    assert set(dir(connection)) == names
    assert {"smtp_DATA", "smtp_MAIL", "auth_PLAIN", "auth_LOGIN"} <= names


def test_command_limits_are_not_shared_state() -> None:
    limits: Any = SmtpConnection.command_size_limits
    before = dict(limits)
    limits["MAIL"] += 26
    limits.clear()
    assert dict(limits) == before
    assert limits["NOOP"] == 512
    assert limits is not SMTP.command_size_limits


# --- the same words to both ---------------------------------------------------------------------------------


class _StockHandler:
    """Says to stock what our services would say, so that the rest of the reply is aiosmtpd's own."""

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:
        if address.startswith("unknown"):
            return "550 No such user here"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        return "250 OK"


def _stock_authenticator(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
    ok = data.login == b"alice" and data.password == b"secret alice"
    return AuthResult(success=ok, handled=False)


# Not here: half a path and a path of two words, which stock takes and we do not (test_codec, test_smtp_hostile).
TRANSCRIPTS: dict[str, list[bytes]] = {
    "order": [
        b"NOOP", b"MAIL FROM:<a@b.test>", b"RCPT TO:<alice@example.test>", b"DATA", b"EHLO", b"HELO",
        b"EHLO client.example", b"RCPT TO:<alice@example.test>", b"DATA", b"MAIL FROM:<a@b.test>",
        b"MAIL FROM:<c@d.test>", b"DATA", b"RCPT TO:<alice@example.test>", b"DATA now", b"RSET", b"DATA",
        b"RSET now", b"QUIT now", b"QUIT",
    ],
    "mail": [
        b"EHLO client.example", b"MAIL", b"MAIL FROM:", b"MAIL FROM", b"MAIL TO:<a@b.test>",
        b"MAIL FROM:<a@b.test> SIZE=100", b"RSET", b"MAIL FROM:<a@b.test> SIZE=x",
        b"MAIL FROM:<a@b.test> SIZE=999999999999", b"MAIL FROM:<a@b.test> BODY=8BITMIME", b"RSET",
        b"MAIL FROM:<a@b.test> BODY=9BIT", b"MAIL FROM:<a@b.test> SMTPUTF8", b"RSET",
        b"MAIL FROM:<a@b.test> SMTPUTF8=1", b"MAIL FROM:<a@b.test> FOO=BAR", b"MAIL FROM:<a@b.test> =",
        b"MAIL FROM: <a@b.test>", b"RSET", b"mail from:<a@b.test>", b"RSET", b'MAIL FROM:<"a b"@c.test>', b"RSET",
        b"MAIL FROM:<@relay.test:a@b.test>", b"RSET", b"MAIL FROM:a@b.test", b"RSET", b"MAIL FROM:<>", b"QUIT",
    ],
    "rcpt": [
        b"EHLO client.example", b"MAIL FROM:<a@b.test>", b"RCPT", b"RCPT TO:",
        b"RCPT TO:<unknown@example.test>", b"RCPT TO:<alice@example.test> FOO",
        b"RCPT TO:<alice@example.test>", b"rcpt to: <bob@example.test>", b"RCPT TO:<postmaster>",
        b"RCPT TO:<Postmaster@example.test>", b"QUIT",
    ],
    "helo": [
        b"HELO client.example", b"MAIL FROM:<a@b.test> SIZE=3", b"MAIL FROM:<a@b.test>",
        b"RCPT TO:<alice@example.test> NOTIFY=NEVER", b"RCPT TO:<alice@example.test>", b"AUTH PLAIN", b"QUIT",
    ],
    "others": [
        b"EHLO client.example", b"VRFY", b"VRFY <a@b.test>", b"EXPN list", b"HELP", b"HELP MAIL",
        b"HELP NONSENSE", b"NOOP ignored", b"NONSENSE", b"", b"N\xc3\x96", b"NOOP " + b"x" * 600, b"QUIT",
    ],
    "auth": [
        b"AUTH PLAIN", b"EHLO client.example", b"AUTH", b"AUTH PLAIN a b c", b"AUTH NONE", b"AUTH PLAIN ====",
        b"AUTH PLAIN AGFsaWNl", b"AUTH PLAIN AGFsaWNlAHdyb25n", b"AUTH PLAIN", b"*", b"AUTH PLAIN", b"nonsense!",
        b"AUTH LOGIN", b"YWxpY2U=", b"c2VjcmV0IGFsaWNl", b"AUTH PLAIN", b"MAIL FROM:<alice@example.test>", b"QUIT",
    ],
}  # fmt: skip

_ENHANCED = re.compile(rb"^(\d{3}[ -])[245]\.\d+\.\d+ ")


def _words(reply: bytes) -> list[bytes]:
    """Lines of a reply without enhanced codes and without what the two are meant to differ in."""
    lines = [_ENHANCED.sub(rb"\1", line).lower() for line in reply.splitlines()]
    return [line for line in lines if line[4:] not in (b"pipelining", b"enhancedstatuscodes", b"dsn")]


async def _play(client: SmtpClient, lines: list[bytes]) -> list[tuple[bytes, list[bytes]]]:
    said = []
    for line in lines:
        reply = await client.do(line)
        said.append((line, _words(reply)))
    return said


@pytest.mark.parametrize("name", TRANSCRIPTS)
async def test_stock_and_subclass_answer_alike(name: str) -> None:
    loop = asyncio.get_running_loop()

    class Stock(SMTP):
        AuthLoginUsernameChallenge = "Username:"  # as most servers ask
        AuthLoginPasswordChallenge = "Password:"

    def stock() -> SMTP:
        return Stock(
            _StockHandler(),
            hostname="mail.example.test",
            ident="ESMTP Postkeep",
            enable_SMTPUTF8=True,
            data_size_limit=128 * 1024 * 1024,
            authenticator=_stock_authenticator,
            auth_require_tls=False,
            loop=loop,
        )

    listener = await loop.create_server(stock, HOST, 0)
    port = listener.sockets[0].getsockname()[1]
    reader, writer = await asyncio.open_connection(HOST, port)
    theirs = SmtpClient(reader, writer)
    try:
        async with smtp_world(
            authentication_without_tls=True, maximum_failed_commands=0, own_addresses_only=False
        ) as world:
            # stock has no TLS context here, so ours shall have none either
            world.server.certificates.server_context = lambda: None  # type: ignore[method-assign,return-value]
            ours = await world.connect(greeting=False)
            assert await ours.reply() == await theirs.reply()
            assert await _play(ours, TRANSCRIPTS[name]) == await _play(theirs, TRANSCRIPTS[name])
    finally:
        await theirs.close()
        listener.close()


async def test_a_message_arrives_alike() -> None:
    """Dots, 8-bit octets, long and empty lines: the content that stock hands on is the content that we store."""
    loop = asyncio.get_running_loop()
    content = b"Subject: \xc3\xbc\r\n\r\n..dot\r\n..\r\n" + b"x" * 900 + b"\r\n\xff\x00\r\n\r\nend"
    taken: list[bytes] = []

    class Keep:
        async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> Any:
            taken.append(envelope.content)
            return MISSING

    listener = await loop.create_server(lambda: SMTP(Keep(), hostname="h", loop=loop), HOST, 0)
    reader, writer = await asyncio.open_connection(HOST, listener.sockets[0].getsockname()[1])
    theirs = SmtpClient(reader, writer)
    try:
        async with smtp_world() as world:
            ours = await world.connect()
            await theirs.reply()
            for client in (ours, theirs):
                await client.hello()
                assert (await client.message(content)).startswith(b"250 ")
            stored = world.store.messages("alice@example.test")[0]
            assert stored.endswith(b"\r\n" + taken[0])
    finally:
        await theirs.close()
        listener.close()
