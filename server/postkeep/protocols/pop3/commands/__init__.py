"""One handler for each command; which is legal when stands in state.LEGAL."""

from postkeep.protocols.pop3.commands.auth import auth
from postkeep.protocols.pop3.commands.capa import capa
from postkeep.protocols.pop3.commands.deletion import dele, rset
from postkeep.protocols.pop3.commands.listing import list_, stat, uidl
from postkeep.protocols.pop3.commands.login import pass_, user
from postkeep.protocols.pop3.commands.quit import noop, quit_
from postkeep.protocols.pop3.commands.retrieval import retr, top
from postkeep.protocols.pop3.commands.stls import stls
from postkeep.protocols.pop3.session import Handler

HANDLERS: dict[str, Handler] = {
    "AUTH": auth,
    "CAPA": capa,
    "DELE": dele,
    "LIST": list_,
    "NOOP": noop,
    "PASS": pass_,
    "QUIT": quit_,
    "RETR": retr,
    "RSET": rset,
    "STAT": stat,
    "STLS": stls,
    "TOP": top,
    "UIDL": uidl,
    "USER": user,
}
