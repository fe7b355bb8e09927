"""CAPA (RFC 2449)."""

from postkeep.protocols.pop3.codec import END
from postkeep.protocols.pop3.commands.login import may_log_in
from postkeep.protocols.pop3.session import Session
from postkeep.protocols.sasl import MECHANISMS


async def capa(session: Session, argument: bytes) -> None:
    names = ["TOP", "UIDL", "RESP-CODES", "AUTH-RESP-CODE", "PIPELINING", "EXPIRE NEVER"]
    if may_log_in(session):
        names += ["USER", f"SASL {' '.join(MECHANISMS)}"]
    if not session.wire.is_tls:
        names.append("STLS")
    names.append("IMPLEMENTATION Postkeep")
    session.reply("Capabilities follow")
    session.wire.write("".join(f"{name}\r\n" for name in names).encode("ascii") + END)
