"""The pages at the client's ports (80, 443) while there is no web client: one that says what this is, and the
way to the administration (row WEB-1)."""

import html
import re
from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import Receive, Scope, Send

_HOST = re.compile(r"[A-Za-z0-9.-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\]")
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Postkeep</title>
<meta name="viewport" content="width=device-width"></head>
<body><h1>Postkeep</h1>
<p>This is the mail server {host}. Read your mail with a mail program over IMAP or POP3.</p>
<p><a href="/admin">Administration</a></p></body></html>
"""


class FrontPages:
    """`administration_port()` is the port to send administrators to, 0 while it does not run."""

    def __init__(self, hostname: str, administration_port: Callable[[], int]) -> None:
        self._hostname = hostname
        self._administration_port = administration_port

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._answer(scope)(scope, receive, send)

    def _answer(self, scope: Scope) -> Response:
        if scope["method"] not in ("GET", "HEAD"):
            return Response(status_code=405, headers={"Allow": "GET, HEAD"})
        if scope["path"] in ("/admin", "/admin/"):
            port = self._administration_port()
            if not port:
                return Response("The administration does not run.\n", 503)
            return RedirectResponse(f"https://{self._host(scope)}:{port}/admin", 302)
        if scope["path"] == "/":
            policy = {"Content-Security-Policy": "default-src 'none'"}
            return HTMLResponse(_PAGE.format(host=html.escape(self._hostname)), headers=policy)
        return Response("Not found\n", 404)

    def _host(self, scope: Scope) -> str:
        """What the browser calls us, if that is a host name; never anything else it may have sent."""
        named = re.sub(r":\d*\Z", "", Headers(scope=scope).get("host", ""))
        return named if _HOST.fullmatch(named) else self._hostname
