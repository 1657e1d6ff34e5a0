"""Take the pictures of docs/report.md: the report of a study in a wide window and on a phone.

    python tools/report_screenshots.py quickstart

Needs Chromium (apt-get install chromium) and playwright (pip install --group dev).
"""

from __future__ import annotations

import argparse
import io
import shutil
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

import vitsearch
from vitsearch.report.page import page

DOCS = Path(__file__).parents[1] / "docs"
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("study")
    data = vitsearch.open_study(parser.parse_args().study).report()
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as running:
        file = Path(folder, "report.html")
        file.write_text(page(data.to_json(), live=False))
        browser = running.chromium.launch(executable_path=shutil.which("chromium"), args=ARGUMENTS)
        take(browser, file, f"trial {data.knee}", "desktop", 1280, 1000, {"color_scheme": "light"})
        take(browser, file, None, "phone", 390, 844, {"color_scheme": "dark", "is_mobile": True, "has_touch": True})
        browser.close()


def take(
    browser: Browser, file: Path, trial: str | None, name: str, width: int, height: int, look: dict[str, object]
) -> None:
    """The front, with the facts of a trial of it, and what follows in the window."""
    window = browser.new_context(viewport={"width": width, "height": height}, reduced_motion="reduce", **look)  # type: ignore[arg-type]
    tab = window.new_page()
    tab.goto(file.as_uri())
    tab.wait_for_selector("html[data-ready]", state="attached")
    tab.evaluate("document.querySelector('#front').scrollIntoView()")
    if trial is not None:
        tab.focus("[data-figure=front] .plot")
        tab.keyboard.press("Home")
        while not (tab.text_content("#spoken") or "").startswith(f"{trial},"):
            tab.keyboard.press("ArrowRight")
    tab.wait_for_timeout(1000)
    Image.open(io.BytesIO(tab.screenshot())).convert("RGB").save(DOCS / f"report_{name}.png", optimize=True)
    window.close()


if __name__ == "__main__":
    main()
