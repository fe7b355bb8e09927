"""Errors as RFC 9457 problem details: `{"type", "title", "status", "detail"}`."""

import http
import traceback
from collections.abc import Mapping
from typing import Any

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from postkeep.domain import errors
from postkeep.runtime.logs import Logs
from postkeep.services.control import CannotListen

_STATUS: tuple[tuple[type[errors.PostkeepError], int], ...] = (
    (errors.AuthenticationFailed, 401),
    (errors.Denied, 403),
    (errors.NotFound, 404),
    (errors.AlreadyExists, 409),
    (errors.InUse, 409),
    (CannotListen, 409),
    (errors.InvalidAddress, 422),
    (errors.InvalidName, 422),
    (errors.ConfigError, 422),
    (errors.LimitReached, 422),
    (errors.Throttled, 429),
    (errors.StorageFull, 507),
)
_ERRORS_SHOWN = 20


def status_of(error: errors.PostkeepError) -> int:
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None, **more: Any) -> Response:
    """RFC 9457 §3.1. `more` are extension members."""
    title = http.HTTPStatus(status).phrase
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail, **more}
    return Response(orjson.dumps(body), status, dict(headers or {}), "application/problem+json")


def problem_of(error: errors.PostkeepError) -> Response:
    status = status_of(error)
    headers = {}
    if status == 401:
        headers["WWW-Authenticate"] = 'Basic realm="Postkeep administration", charset="UTF-8"'
    if status == 429:
        headers["Retry-After"] = "60"
    return problem(status, str(error), headers)


def install(app: FastAPI, logs: Logs) -> None:
    """Have `app` answer all errors this way. An unexpected one goes to the Error log; the client is told
    nothing of the inside."""

    async def known(request: Request, error: Exception) -> Response:
        assert isinstance(error, errors.PostkeepError)
        if status_of(error) >= 500:
            logs.error.write(f"Administration: {request.method} {request.url.path}: {error}")
        return problem_of(error)

    async def wrong_input(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        # Never the input itself: it may hold a password.
        found = [
            {"where": "/".join(str(part) for part in one["loc"]), "reason": str(one["msg"])}
            for one in error.errors()[:_ERRORS_SHOWN]
        ]
        detail = "; ".join(f"{one['where']}: {one['reason']}" for one in found) or "the request is malformed"
        return problem(422, detail, errors=found)

    async def plain(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return problem(error.status_code, str(error.detail), error.headers)

    async def unexpected(request: Request, error: Exception) -> Response:
        where = " | ".join(line.strip() for line in traceback.format_exception(error)[-3:])
        logs.error.write(f"Administration: {request.method} {request.url.path}: {where}")
        return problem(500, "An error occurred; the Error log has more")

    app.add_exception_handler(errors.PostkeepError, known)
    app.add_exception_handler(RequestValidationError, wrong_input)
    app.add_exception_handler(HTTPException, plain)
    app.add_exception_handler(Exception, unexpected)
