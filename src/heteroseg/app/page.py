"""The page for people: plain HTML and script on the endpoint, and a guard before both."""

import asyncio
import traceback
from collections.abc import Collection, Mapping
from contextlib import suppress
from importlib.resources import files as package_files
from ipaddress import ip_address
from urllib.parse import urlsplit

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.datastructures import MutableHeaders
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from heteroseg.app.bounds import Limits, Turns
from heteroseg.app.service import build_service
from heteroseg.model.model import Model

FILES = {
    "/": ("app.html", "text/html"),
    "/app.js": ("app.js", "text/javascript"),
    "/app.css": ("app.css", "text/css"),
    "/page.css": ("page.css", "text/css"),
}
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' blob: data:; media-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
LINGER = 2.0  # seconds in which the rest of a refused body is read and dropped: else its sender sees no answer


def _names(host: str, allowed: Collection[str], own: str) -> bool:
    """Whether a Host header names this server. A name of another page may point here, so few are taken."""
    parts = urlsplit(f"//{host}")
    name = parts.hostname or ""
    if not name or parts.netloc != host or "@" in host or (parts.port is None and host.endswith(":")):
        return False
    try:
        return name in allowed or name == own or ip_address(name).is_loopback
    except ValueError:
        return False


def refusal(request: Request, allowed: Collection[str]) -> JSONResponse | None:
    """What other pages get that ask in the name of the user; None if the request is one of this page or a program."""
    headers, method, fault = request.headers, request.method, None
    host, origins, status = headers.get("host", ""), headers.getlist("origin"), 403
    from_page = headers.get("sec-fetch-site", "none") in ("none", "same-origin")
    opened = method in ("GET", "HEAD") and headers.get("sec-fetch-dest") == "document"  # a link that was followed
    try:
        if not _names(host, allowed, (request.scope.get("server") or ("",))[0]):
            known = ", ".join(sorted(allowed))
            fault = f"expected the address of this server or one of {known} as host, found {host!r:.80}"
            status, fault = 421, f"{fault}; see `serve --allow-host`"
        elif any(urlsplit(origin).netloc != host for origin in origins):
            fault = f"expected a request of this page or of a program, found one of {origins[0]:.80}"
        elif not (from_page or opened):
            fault = "expected a request of this page or of a program, found one of another page"
    except ValueError:  # no address at all, such as [::1
        status, fault = 421, f"expected a host, found {host!r:.80}"
    return JSONResponse({"error": fault}, status) if fault else None


class Guard:
    """Before all answers: refuses other pages, adds HEADERS, and reads what is left of a body that was refused."""

    def __init__(self, app: ASGIApp, allowed: Collection[str]):
        self.app, self.allowed = app, allowed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        request, started = Request(scope), False
        more = "transfer-encoding" in request.headers or request.headers.get("content-length", "0") != "0"

        async def noted() -> Message:
            nonlocal more
            message = await receive()
            more = message.get("more_body", False)
            return message

        async def headed(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                MutableHeaders(scope=message).update(HEADERS)
            elif more and not message.get("more_body") and "expect" not in request.headers:
                await send({**message, "more_body": True})
                with suppress(TimeoutError):
                    async with asyncio.timeout(LINGER):
                        while more:
                            await noted()
                message = {"type": "http.response.body"}
            await send(message)

        answer = refusal(request, self.allowed) or self.app
        try:
            await answer(scope, noted, headed)
        except Exception:
            traceback.print_exc()  # to the server's own output
            if not started:
                fault = "a fault of the server's, told in its output; ask for something else"
                await JSONResponse({"error": fault}, 500)(scope, noted, headed)


def build_app(
    models: Mapping[str, Model],
    limits: Limits,
    allowed: Collection[str] = (),
    root_path: str = "",
    precision: float = 0,
) -> FastAPI:
    """Endpoint under /v1, page under /. `allowed` are host names beside localhost that the server may be asked by.

    `root_path` is the path of a proxy below which all of it is found. `precision` is promised by answers of the
    tree, where a request asks for nothing else.
    """
    service = build_service(models, Turns(limits), root_path, precision)
    for path, (name, kind) in FILES.items():
        content = (package_files("heteroseg") / "templates" / name).read_bytes()
        service.router.routes.append(Route(path, Response(content, media_type=kind), methods=["GET"]))
    service.add_middleware(Guard, allowed={"localhost", *allowed})
    return service
