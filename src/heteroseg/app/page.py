"""The page for people: plain HTML and script on the endpoint, and a guard before both."""

from collections.abc import Collection, Mapping
from importlib.resources import files as package_files
from ipaddress import ip_address
from urllib.parse import urlsplit

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.datastructures import Headers
from starlette.middleware.base import RequestResponseEndpoint
from starlette.routing import Route

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
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}


def _is_address(name: str) -> bool:
    try:
        return bool(ip_address(name))
    except ValueError:
        return False


def refusal(headers: Headers, allowed: Collection[str]) -> JSONResponse | None:
    """What other pages get that ask in the name of the user; None if the request is one of this page or a program."""
    host, origin, status, fault = headers.get("host", ""), headers.get("origin"), 421, None
    try:
        name = urlsplit(f"//{host}").hostname or ""
        if name not in allowed and not _is_address(name):  # a name of another page may point here
            known = ", ".join(sorted(allowed))
            fault = f"expected an address or one of {known} as host, found {name!r}; see `serve --allow-host`"
        elif origin is not None and urlsplit(origin).netloc != host:
            status, fault = 403, f"expected a request of this page or of a program, found one of {origin}"
    except ValueError:  # no address at all, such as [::1
        fault = f"expected a host, found {host!r}"
    return JSONResponse({"error": fault}, status) if fault else None


def build_app(models: Mapping[str, Model], limits: Limits, allowed: Collection[str] = ()) -> FastAPI:
    """Endpoint under /v1, page under /. `allowed` are host names beside localhost that the server may be asked by."""
    service = build_service(models, Turns(limits))
    for path, (name, kind) in FILES.items():
        content = (package_files("heteroseg") / "templates" / name).read_bytes()
        service.router.routes.append(Route(path, Response(content, media_type=kind), methods=["GET"]))

    @service.middleware("http")
    async def guarded(request: Request, answer: RequestResponseEndpoint) -> Response:
        response = refusal(request.headers, {"localhost", *allowed}) or await answer(request)
        response.headers.update(HEADERS)  # keeps the browser to what the page needs
        return response

    return service
