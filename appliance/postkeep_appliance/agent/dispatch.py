"""A request -> its handler: session, turn, and every error as a Failure with words."""

import logging
from collections.abc import Callable, Mapping
from typing import Any

from postkeep_appliance.agent.sessions import Sessions
from postkeep_appliance.agent.work import Refused, Rule, Turn, Work
from postkeep_appliance.api.types import OPEN_CALLS, Answer, ChangePassword, Failure, Lock, Request, Result
from postkeep_appliance.host.port import HostError, Invalid

_log = logging.getLogger("postkeep.agent")


class Dispatcher:
    """`changed` is called after each call that changed the machine."""

    def __init__(
        self, rules: Mapping[type, Rule], sessions: Sessions, turn: Turn, changed: Callable[[], None]
    ) -> None:
        self._rules = rules
        self._sessions = sessions
        self._turn = turn
        self._changed = changed

    async def answer(self, request: Request, work: Work) -> Answer | Failure:
        """Never raises but CancelledError."""
        name = type(request.call).__name__
        try:
            return Answer(request.id, await self._handle(request, work, name))
        except Refused as error:
            return Failure(request.id, error.code, error.text, error.field)
        except Invalid as error:
            return Failure(request.id, "invalid", error.text, error.field)
        except HostError as error:
            _log.error("%s for %s failed: %s", name, work.caller, error)
            return Failure(request.id, "failed", str(error))
        except Exception:
            _log.exception("%s for %s failed", name, work.caller)
            return Failure(
                request.id, "failed", "Something unexpected went wrong in the agent; see the log “agent”."
            )

    async def _handle(self, request: Request, work: Work, name: str) -> Result:
        rule = self._rules[type(request.call)]
        if not isinstance(request.call, OPEN_CALLS):
            self._sessions.require(request.session)
            if self._sessions.first_password and not isinstance(request.call, ChangePassword | Lock):
                raise Refused("denied", "Root has the documented first password: change it first.")
        if not rule.changes:
            return await rule.handler(request.call, work)

        async def whole() -> Result:
            try:
                return await rule.handler(request.call, work)
            finally:
                self._changed()

        return await self._turn.run(name, rule.atomic, whole)


def check_complete(rules: Mapping[type, Any], calls: tuple[type, ...]) -> None:
    """At start: each call has its handler. Raises LookupError."""
    missing = [call.__name__ for call in calls if call not in rules]
    if missing:
        raise LookupError(f"no handler for {', '.join(missing)}")
