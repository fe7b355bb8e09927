"""The socket side of one POP3 client: the only code of this protocol that awaits it (PIPELINING: RFC 2449
§6.6)."""

from collections.abc import Callable

from postkeep.protocols.pop3.codec import RESPONSE_LIMIT, Codec, Fault, err, ok
from postkeep.protocols.pop3.commands import HANDLERS
from postkeep.protocols.pop3.session import Context, Session
from postkeep.protocols.pop3.state import State
from postkeep.protocols.wire import LineConnection
from postkeep.runtime.limits import ConnectionLimiter


class Pop3Connection(LineConnection):
    """Made by Pop3Server.factory()."""

    NAME = "POP3"
    READ_HIGH = 32 * 1024

    __slots__ = ()

    _context: Context
    codec: Codec
    session: Session

    def __init__(
        self, context: Context, limiter: ConnectionLimiter, gone: Callable[[LineConnection], None]
    ) -> None:
        super().__init__(context, limiter, gone)
        self.codec = Codec()
        self.session = Session(context, self, HANDLERS)

    async def response(self) -> bytes | Fault:
        """session.Wire"""
        while True:
            line = self.codec.next(RESPONSE_LIMIT)
            if line is not None:
                return line
            await self._input()

    # --- inside -------------------------------------------------------------------------------------

    def _greet(self) -> None:
        self.write(ok("Postkeep ready"))

    async def _step(self) -> bool:
        line = self.codec.next()
        if line is None:
            return False
        await self.session.handle(line)
        self._touch()
        return True

    def _farewell(self, reason: str) -> None:
        if not self._closing:
            self.write(err(reason, "SYS/TEMP"))
            self.close()

    def _timed_out(self) -> None:
        self.close()  # RFC 1939 §3: no response, nothing is removed

    def _upgrade(self) -> None:
        self.session.reset_authorization()
        super()._upgrade()

    def _ended(self) -> None:
        self.session.closed()  # only now the maildrop is free
        super()._ended()

    @property
    def _authorized(self) -> bool:
        return self.session.state is not State.AUTHORIZATION
