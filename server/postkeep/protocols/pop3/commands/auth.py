"""AUTH with PLAIN and LOGIN (RFC 5034, RFC 4616)."""

import base64
import binascii

from postkeep.protocols.pop3.codec import END, Fault
from postkeep.protocols.pop3.commands.login import log_in, may_log_in, require_privacy, text
from postkeep.protocols.pop3.session import Refused, Session

MECHANISMS = ("PLAIN", "LOGIN")


async def auth(session: Session, argument: bytes) -> None:
    words = argument.split()
    if not words:  # older clients ask for the mechanisms in this way
        usable = MECHANISMS if may_log_in(session) else ()
        session.reply("Mechanisms follow")
        session.wire.write("".join(f"{name}\r\n" for name in usable).encode("ascii") + END)
        return
    if len(words) > 2:
        raise Refused("Too many arguments", bad=True)
    require_privacy(session)
    initial = words[1] if len(words) == 2 else None
    mechanism = words[0].upper()
    if mechanism == b"PLAIN":
        name, password = _plain(session, await _response(session, b"", initial))
    elif mechanism == b"LOGIN":
        name = text(await _response(session, b"Username:", initial))
        password = text(await _response(session, b"Password:", None))
    else:
        raise Refused("Unknown mechanism")
    await log_in(session, name, password)


async def _response(session: Session, challenge: bytes, initial: bytes | None) -> bytes:
    if initial is None:
        session.wire.write(b"+ %b\r\n" % base64.b64encode(challenge))
        line = await session.wire.response()
        if isinstance(line, Fault):
            raise Refused(line.value, bad=True)
        if line == b"*":  # RFC 5034 §4
            raise Refused("Cancelled")
    else:
        line = b"" if initial == b"=" else initial
    try:
        return base64.b64decode(line, validate=True)
    except binascii.Error as error:
        raise Refused("Not base64", bad=True) from error


def _plain(session: Session, message: bytes) -> tuple[str, str]:
    """authzid NUL authcid NUL password (RFC 4616 §2)."""
    parts = message.split(b"\0")
    if len(parts) != 3 or not parts[1]:
        raise Refused("Not a PLAIN message", bad=True)
    identity, name, password = map(text, parts)
    if identity and not session.context.authenticator.same_login(identity, name):
        raise Refused("Acting for another user is not allowed", "AUTH")
    return name, password
