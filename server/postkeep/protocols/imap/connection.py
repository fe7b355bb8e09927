"""The socket side of one IMAP client: the only code of this protocol that awaits it."""

from collections.abc import Callable

from postkeep.protocols.imap.codec import Codec, Line
from postkeep.protocols.imap.commands import HANDLERS
from postkeep.protocols.imap.commands.capability import capabilities
from postkeep.protocols.imap.session.session import COMMAND_LIMIT_BEFORE_LOGIN, Context, Session
from postkeep.protocols.imap.state import State
from postkeep.protocols.wire import Disconnected, LineConnection
from postkeep.runtime.limits import ConnectionLimiter


class ImapConnection(LineConnection):
    """Made by ImapServer.factory(). A task that is done is started again by input, or by `wake`."""

    NAME = "IMAP"
    READ_HIGH = 128 * 1024

    __slots__ = ()

    _context: Context
    codec: Codec
    session: Session

    def __init__(
        self,
        context: Context,
        limiter: ConnectionLimiter,
        gone: Callable[[LineConnection], None],
    ) -> None:
        super().__init__(context, limiter, gone)
        nonsync = 4096 if context.settings.literal_minus else None
        self.codec = Codec(COMMAND_LIMIT_BEFORE_LOGIN, nonsync)
        self.session = Session(context, self, HANDLERS)

    # --- asyncio ------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        self._touch()  # a long message on its way is a sign of life too
        super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.session.closed()
        super().connection_lost(exc)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.session.has_news:
            self.wake()

    # --- session.Wire -------------------------------------------------------------------------------

    async def line(self) -> bytes:
        self.codec.expect_line()
        while True:
            event = self.codec.next()
            if isinstance(event, Line):
                return event.text
            if event is not None:  # Fatal
                await self.session.handle(event)
                raise Disconnected
            await self._input()

    async def literal(self) -> bytes:
        while True:
            data = self.codec.take_literal()
            self._resume_reading()
            if data or not self.codec.literal_left:
                return data
            await self._input()

    def wake(self) -> None:
        if self._task is None and not self._closing and not self._write_paused:
            self._start()

    # --- inside -------------------------------------------------------------------------------------

    def _greet(self) -> None:
        self.write(b"* OK [CAPABILITY %b] Postkeep ready\r\n" % capabilities(self.session))

    async def _step(self) -> bool:
        session = self.session
        if session.idle_tag is not None:
            await session.push()
            self.codec.expect_line()
            if self._stopping:
                return False
        event = self.codec.next()
        if event is not None:
            await session.handle(event)
            return True
        # Nothing is awaited from here to the end of the task: `wake` starts the next one.
        return session.has_news

    def _farewell(self, reason: str) -> None:
        self.session.bye(reason)

    def _timed_out(self) -> None:
        self.session.bye("Autologout; idle for too long" if self._authorized else "Log in sooner")

    @property
    def _authorized(self) -> bool:
        return self.session.state is not State.NOT_AUTHENTICATED
