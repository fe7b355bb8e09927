"""aiosmtpd's Session and Envelope with what Postkeep keeps beside them."""

import asyncio
from typing import Any

from aiosmtpd.smtp import Envelope, Session

from postkeep.services.envelope import Client, Transaction


class SmtpSession(Session):
    """`client` is what the services know the peer by."""

    # aiosmtpd's property of this name warns in a log at each use; smtp_AUTH sets it.
    login_data: Any = None

    def __init__(self, loop: asyncio.AbstractEventLoop, client: Client) -> None:
        super().__init__(loop)
        self.client = client


class SmtpEnvelope(Envelope):
    """`transaction` is what the services fill; aiosmtpd's lists only tell its commands how far we are."""

    def __init__(self) -> None:
        super().__init__()
        self.transaction = Transaction()
