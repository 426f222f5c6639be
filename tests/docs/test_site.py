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

from tests.browser import chromium, require_whole

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(f"{path.relative_to(DOCS).with_suffix('')}/".replace("index/", "") for path in DOCS.rglob("*.md"))


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
    with chromium() as browser:
        yield browser


def test_pages_are_whole_and_for_everybody(site, browser):
    require_whole(browser, *(f"{site}/{name}" for name in PAGES), views=[(1440, "light"), (390, "dark")])
    require_whole(browser, f"{site}/", f"{site}/start/", f"{site}/results/", f"{site}/reference/")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_page_leads_on(site, browser, scheme):
    page = browser.new_page(color_scheme=scheme)
    page.goto(f"{site}/results/")
    assert page.locator(".md-footer__link--prev").count()
    assert page.locator(".md-footer__link--next").count()
    assert page.locator("a[href='https://example.org/heteroseg']").count()
    dark = page.locator("body[data-md-color-scheme='slate']").count()
    assert dark == (scheme == "dark")
    page.locator("label[for^='__palette']:visible").click()
    page.locator(f"body[data-md-color-scheme='{'default' if dark else 'slate'}']").wait_for()
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
