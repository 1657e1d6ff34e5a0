"""The report in Chromium, without a network."""

import shutil
from contextlib import contextmanager

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    "--enable-unsafe-swiftshader",  # WebGL without a GPU
]


@contextmanager
def opened(browser, file, **context):
    """A page that is ready, and what it has complained about or asked the network for."""
    with browser.new_context(
        **{"viewport": {"width": 1280, "height": 900}, "reduced_motion": "reduce"} | context
    ) as window:
        tab, complaints = window.new_page(), []
        tab.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.on("request", lambda request: complaints.append(request.url) if request.url.startswith("http") else None)
        tab.goto(file if isinstance(file, str) else file.as_uri())
        tab.wait_for_selector("html[data-ready]", state="attached")
        yield tab, complaints


def selected(tab):
    """The numbers of the trials that are selected, as the page knows them."""
    return tab.evaluate("[...selection.trials].map((index) => page.data.trials[index].number)")
