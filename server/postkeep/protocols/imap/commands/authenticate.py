"""AUTHENTICATE PLAIN and LOGIN with initial responses (RFC 3501 §6.2.2, RFC 4616, RFC 4959)."""

import base64
import binascii

from postkeep.protocols.imap.commands.login import log_in, require_privacy
from postkeep.protocols.imap.session.session import No, Session
from postkeep.protocols.imap.syntax import BadSyntax, Cursor


async def authenticate(session: Session, cursor: Cursor) -> bytes | None:
    cursor.space()
    mechanism = cursor.word()
    initial: bytes | None = None
    if not cursor.at_end:
        cursor.space()
        initial = cursor.data[cursor.position :]
    require_privacy(session)
    if mechanism == "PLAIN":
        name, password = _plain(session, await _response(session, b"", initial))
    elif mechanism == "LOGIN":
        name = _text(await _response(session, b"Username:", initial))
        password = _text(await _response(session, b"Password:", None))
    else:
        raise No("Unknown mechanism", "CANNOT")
    return await log_in(session, name, password, "AUTHENTICATE")


async def _response(session: Session, challenge: bytes, initial: bytes | None) -> bytes:
    if initial is None:
        session.write(b"+ %b\r\n" % base64.b64encode(challenge))
        initial = await session.wire.line()
        if initial == b"*":
            raise BadSyntax("Authentication cancelled")
    elif initial == b"=":  # RFC 4959 §3: an empty initial response
        return b""
    try:
        return base64.b64decode(initial, validate=True)
    except binascii.Error as error:
        raise BadSyntax("Invalid base64") from error


def _plain(session: Session, message: bytes) -> tuple[str, str]:
    """authzid NUL authcid NUL password (RFC 4616 §2)."""
    parts = message.split(b"\0")
    if len(parts) != 3:
        raise BadSyntax("Invalid PLAIN message")
    identity, name, password = map(_text, parts)
    if identity and not session.context.authenticator.same_login(identity, name):
        raise No("Acting for another user is not allowed", "AUTHORIZATIONFAILED")
    return name, password


def _text(value: bytes) -> str:
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadSyntax("Invalid UTF-8") from error
    if "\0" in text:
        raise BadSyntax("NUL is not allowed")
    return text
