"""The machine's Chromium, and what axe-core says of a page."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import pytest

CHROMIUM = (shutil.which("chromium") or shutil.which("chromium-browser")) if find_spec("playwright") else None
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
VIEWS = [(width, scheme) for width in (1440, 1024, 390) for scheme in ("light", "dark")]
CUT = """() => [...document.querySelectorAll('pre, code, h1, h2, h3, p, li, td, th, button, select')].filter(e => {
    const box = e.getBoundingClientRect();
    const scrolls = e => e && (/auto|scroll/.test(getComputedStyle(e).overflowX) || scrolls(e.parentElement));
    if (!box.width || !e.checkVisibility()) return false;
    if (e.matches('pre')) return e.scrollWidth > e.clientWidth + 1;
    return box.right > innerWidth + 1 && !scrolls(e.parentElement);
}).map(e => `cut: ${e.textContent.slice(0, 60)}`)"""


@contextmanager
def chromium() -> Iterator[Any]:
    """The browser; where there is none the test is skipped."""
    if CHROMIUM is None:
        pytest.skip("no chromium on the path; Debian's package is called chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


def complaints(page) -> list[str]:
    """What axe-core finds that is serious, each with the first place. The page is opened with `bypass_csp`."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [f"{v['id']}: {v['nodes'][0]['html']}" for v in found if v["impact"] in ("serious", "critical")]


def flaws(page) -> list[str]:
    """What keeps a page from being read: it is wider than the screen, something is cut, or what axe-core finds."""
    wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    return [f"{wide} pixels too wide"] * (wide > 0) + page.evaluate(CUT) + complaints(page)


def require_whole(browser, *addresses: str, views: Sequence[tuple[int, str]] = VIEWS) -> None:
    """Pages have no flaw, no fault of their scripts, and ask nobody else, wide and narrow, light and dark."""
    for width, scheme in views:
        size = {"width": width, "height": 900}
        page, faults, asked = browser.new_page(viewport=size, color_scheme=scheme, bypass_csp=True), [], []
        page.on("pageerror", lambda error, faults=faults: faults.append(str(error)))
        page.on("request", lambda request, asked=asked: asked.append(request.url))
        for address in addresses:
            page.goto(address)
            own = ("data:", "blob:", "/".join(address.split("/")[:3]))
            faults += [*flaws(page), *(url for url in asked if not url.startswith(own))]
            assert (address, width, scheme, faults) == (address, width, scheme, [])
        page.close()
