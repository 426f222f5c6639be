"""The site as people see it: built, opened in a browser, in both colours, wide and narrow."""

import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tests.browser import CHROMIUM, FLAGS, complaints

ROOT = Path(__file__).parents[2]
CUT = """() => [...document.querySelectorAll('pre, p code')].filter(e => e.offsetParent &&
    (e.scrollWidth > e.clientWidth + 1 && e.matches('pre') || e.getBoundingClientRect().right > innerWidth))
    .map(e => e.textContent)"""


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *told: object) -> None:
        pass


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Iterator[str]:
    """Where the built site is served."""
    pytest.importorskip("mkdocs")
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(out)]
    subprocess.run(command, cwd=ROOT, check=True, env=os.environ | {"REPO_URL": "https://example.org/heteroseg"})
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(out))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("no chromium on the path; Debian's package is called chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 390])
def test_pages_are_whole_and_for_everybody(site, browser, width, scheme):
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme, bypass_csp=True)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    for name in ("", "start/", "results/", "reference/"):
        page.goto(f"{site}/{name}")
        assert complaints(page) == [], name
        assert page.evaluate(CUT) == [], name
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name
    assert page.locator(".md-footer__link--prev").count()
    assert page.locator(".md-footer__link--next").count()
    assert page.locator("a[href='https://example.org/heteroseg']").count()
    dark = page.locator("body[data-md-color-scheme='slate']").count()
    assert dark == (scheme == "dark")
    page.locator("label[for^='__palette']:visible").click()
    page.locator(f"body[data-md-color-scheme='{'default' if dark else 'slate'}']").wait_for()
    assert [url for url in asked if not url.startswith((site, "data:", "blob:"))] == []
    page.close()


def test_the_search_finds_what_people_type(site, browser):
    page = browser.new_page()
    for word in ("fine-tune", "augmentation", "wandb", "onnx", "several GPUs"):
        page.goto(site)
        page.locator(".md-search__input").click()
        page.locator(".md-search-result__meta", has_text="Type to start").wait_for(timeout=120_000)  # it is ready
        page.locator(".md-search__input").press_sequentially(word)  # the theme waits for keys
        page.locator(".md-search-result__link").first.wait_for()
    page.close()
