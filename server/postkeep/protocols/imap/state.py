"""Which command is legal when (RFC 3501 §3, §6): the one table of the protocol's states.

connect ──▶ NOT_AUTHENTICATED ──LOGIN/AUTHENTICATE──▶ AUTHENTICATED ──SELECT/EXAMINE──▶ SELECTED
                                                        ◀──CLOSE/UNSELECT/failed SELECT──
LOGOUT, BYE, time-outs: any state ──▶ LOGOUT
"""

from enum import IntFlag


class State(IntFlag):
    NOT_AUTHENTICATED = 1
    AUTHENTICATED = 2
    SELECTED = 4
    LOGOUT = 8


ANY = State.NOT_AUTHENTICATED | State.AUTHENTICATED | State.SELECTED
LOGGED_IN = State.AUTHENTICATED | State.SELECTED

LEGAL: dict[str, State] = {
    # RFC 3501 §6.1
    "CAPABILITY": ANY,
    "NOOP": ANY,
    "LOGOUT": ANY,
    "ID": ANY,  # RFC 2971
    # RFC 3501 §6.2
    "STARTTLS": State.NOT_AUTHENTICATED,
    "AUTHENTICATE": State.NOT_AUTHENTICATED,
    "LOGIN": State.NOT_AUTHENTICATED,
    # RFC 3501 §6.3
    "SELECT": LOGGED_IN,
    "EXAMINE": LOGGED_IN,
    "CREATE": LOGGED_IN,
    "DELETE": LOGGED_IN,
    "RENAME": LOGGED_IN,
    "SUBSCRIBE": LOGGED_IN,
    "UNSUBSCRIBE": LOGGED_IN,
    "LIST": LOGGED_IN,
    "LSUB": LOGGED_IN,
    "STATUS": LOGGED_IN,
    "APPEND": LOGGED_IN,
    "ENABLE": LOGGED_IN,  # RFC 5161
    "IDLE": LOGGED_IN,  # RFC 2177
    "NAMESPACE": LOGGED_IN,  # RFC 2342
    # RFC 3501 §6.4
    "CHECK": State.SELECTED,
    "CLOSE": State.SELECTED,
    "UNSELECT": State.SELECTED,  # RFC 3691
    "EXPUNGE": State.SELECTED,
    "SEARCH": State.SELECTED,
    "FETCH": State.SELECTED,
    "STORE": State.SELECTED,
    "COPY": State.SELECTED,
    "MOVE": State.SELECTED,  # RFC 6851
    "UID SEARCH": State.SELECTED,
    "UID FETCH": State.SELECTED,
    "UID STORE": State.SELECTED,
    "UID COPY": State.SELECTED,
    "UID MOVE": State.SELECTED,
    "UID EXPUNGE": State.SELECTED,  # RFC 4315
}

NO_EXPUNGE = frozenset({"FETCH", "STORE", "SEARCH"})
"""During these no EXPUNGE may be sent: the client still counts in its old numbers (RFC 3501 §5.5, §7.4.1)."""
