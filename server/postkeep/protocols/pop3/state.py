"""Which command is legal when (RFC 1939 §4–6, 2449, 2595, 5034): the one table of the protocol's states.

connect ──▶ AUTHORIZATION ──PASS/AUTH──▶ TRANSACTION ──QUIT──▶ UPDATE ──▶ closed
                  └──QUIT──▶ closed            └── anything else that ends it: nothing is removed ──▶ closed
"""

from enum import IntFlag


class State(IntFlag):
    AUTHORIZATION = 1
    TRANSACTION = 2
    UPDATE = 4


BOTH = State.AUTHORIZATION | State.TRANSACTION

LEGAL: dict[str, State] = {
    "CAPA": BOTH,  # RFC 2449 §5
    "QUIT": BOTH,
    # RFC 1939 §7
    "USER": State.AUTHORIZATION,
    "PASS": State.AUTHORIZATION,
    "AUTH": State.AUTHORIZATION,  # RFC 5034
    "STLS": State.AUTHORIZATION,  # RFC 2595 §4
    # RFC 1939 §5, §7
    "STAT": State.TRANSACTION,
    "LIST": State.TRANSACTION,
    "UIDL": State.TRANSACTION,
    "RETR": State.TRANSACTION,
    "TOP": State.TRANSACTION,
    "DELE": State.TRANSACTION,
    "NOOP": State.TRANSACTION,
    "RSET": State.TRANSACTION,
}
