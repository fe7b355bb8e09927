"""New certificates without a restart: sslcert/ and sslca/ are looked at again and again (row SEC-1)."""

import asyncio
import datetime

from postkeep.runtime.certificates import Certificates
from postkeep.runtime.clock import Clock
from postkeep.runtime.logs import Logs

INTERVAL = 30.0
"""Seconds between two looks at the folders."""
SETTLE = 2.0
"""Files that changed are read once nothing has changed for so long: a certificate and its key come one after
the other."""
_ROUNDS = 15
"""How often one look waits for that."""


class CertificateWatch:
    """Has changed certificates read in a thread and used for new connections; those that are open go on.

    What cannot be used is said in the Error log, and what served before goes on serving.
    """

    def __init__(self, certificates: Certificates, clock: Clock, logs: Logs) -> None:
        self._certificates = certificates
        self._clock = clock
        self._logs = logs
        self._seen = certificates.read_at
        self._wake = asyncio.Event()
        self._forced = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    def read_now(self) -> None:
        """Soon, whether anything has changed or not (SIGHUP)."""
        self._forced = True
        self._wake.set()

    async def _run(self) -> None:
        while True:
            timer = self._clock.call_later(INTERVAL, self._wake.set)
            try:
                await self._wake.wait()
            finally:
                timer.cancel()
            self._wake.clear()
            forced, self._forced = self._forced, False
            try:
                await self.look(forced=forced)
            except Exception as error:
                self._logs.error.write(f"The certificates could not be read again: {error}")

    async def look(self, *, forced: bool = False) -> None:
        """Once. `forced`: read them though they look the same, and at once."""
        certificates = self._certificates
        state = await asyncio.to_thread(certificates.fingerprint)
        if state == self._seen and not forced:
            certificates.rank()  # the time of one may have come
            return
        for _ in range(0 if forced else _ROUNDS):
            await self._clock.sleep(SETTLE)
            before, state = state, await asyncio.to_thread(certificates.fingerprint)
            if state == before:
                break
        found, said = await asyncio.to_thread(certificates.read_again)
        self._seen = state
        for line in said:
            self._logs.error.write(line)
        certificates.use(found)
        active = certificates.active
        doubt = ", not all could be used (see the Error log)" if said else ""
        end = datetime.datetime.fromtimestamp(active.not_after, datetime.UTC)
        self._logs.operations.write(
            f"The certificates were read again{doubt}: {active.path.name} is in use,"
            f" valid until {end:%Y-%m-%d}"
        )
