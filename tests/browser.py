"""The machine's Chromium, and what axe-core says of a page."""

import shutil
from importlib.util import find_spec

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


def complaints(page) -> list[str]:
    """What axe-core finds that is serious, each with the first place. The page is opened with `bypass_csp`."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [f"{v['id']}: {v['nodes'][0]['html']}" for v in found if v["impact"] in ("serious", "critical")]
