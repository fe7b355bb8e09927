"""CAPABILITY (RFC 3501 §6.1.1): what is advertised works wholly."""

import functools

from postkeep.protocols.imap.session.session import Session
from postkeep.protocols.imap.state import State
from postkeep.protocols.imap.syntax import Cursor
from postkeep.protocols.sasl import MECHANISMS

_ALWAYS = (
    b"SASL-IR",  # RFC 4959
    b"ENABLE",  # RFC 5161
    b"ID",  # RFC 2971
)
_EXTENSIONS = (
    b"IDLE",  # RFC 2177
    b"NAMESPACE",  # RFC 2342
    b"UIDPLUS",  # RFC 4315
    b"UNSELECT",  # RFC 3691
    b"CHILDREN",  # RFC 3348
    b"SPECIAL-USE",  # RFC 6154
    b"CREATE-SPECIAL-USE",
    b"LIST-EXTENDED",  # RFC 5258
    b"LIST-STATUS",  # RFC 5819
    b"STATUS=SIZE",  # RFC 8438
    b"MOVE",  # RFC 6851
    b"ESEARCH",  # RFC 4731
    b"CONDSTORE",  # RFC 7162
    b"QRESYNC",
)


@functools.lru_cache(maxsize=64)
def _text(logged_in: bool, tls: bool, plaintext_login: bool, literal_minus: bool, append_limit: int) -> bytes:
    words = [b"IMAP4rev1", b"LITERAL-" if literal_minus else b"LITERAL+", *_ALWAYS]
    if not logged_in:
        if not tls:
            words.append(b"STARTTLS")
        if tls or plaintext_login:
            words += [b"AUTH=" + name.encode() for name in MECHANISMS]
        else:
            words.append(b"LOGINDISABLED")
    words += _EXTENSIONS
    words.append(b"APPENDLIMIT=%d" % append_limit)  # RFC 7889
    return b" ".join(words)


def capabilities(session: Session) -> bytes:
    """The words after CAPABILITY, as they are for this connection now."""
    settings = session.context.settings
    return _text(
        session.state is not State.NOT_AUTHENTICATED,
        session.wire.is_tls,
        settings.plaintext_login,
        settings.literal_minus,
        settings.append_limit,
    )


async def capability(session: Session, cursor: Cursor) -> bytes:
    cursor.end()
    session.write(b"* CAPABILITY %b\r\n" % capabilities(session))
    return b"OK CAPABILITY completed"
