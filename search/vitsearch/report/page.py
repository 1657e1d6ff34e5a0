"""The page of a report: the template, plotly and the data in one file that asks no network for anything."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

SCRIPTS = ("data.js", "selection.js", "theme.js", "effects.js", "figures.js", "drawing.js", "tables.js", "page.js")
"""In the order in which they need each other."""
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; img-src data: blob:; "
    "connect-src {allowed}"
)
"""What the page may load and run: nothing from elsewhere. The live page asks the server that it came from. plotly makes
the programs of its parallel coordinates as text, hence `unsafe-eval`."""


def page(data: Mapping[str, Any], live: bool) -> str:
    """The whole page. `live`: it follows the server that it came from."""
    from plotly.offline import get_plotlyjs  # plotly: only for those who make a report

    parts = {
        "title": _escaped(f"{data['study']} - vitsearch report"),
        "policy": policy(live),
        "mode": "live" if live else "file",
        "style": _template("report.css"),
        "data": as_script(data),
        "plotly": get_plotlyjs(),
        "scripts": "\n".join(map(_template, SCRIPTS)),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], _template("report.html"))


def policy(live: bool) -> str:
    """The content security policy of the page."""
    return POLICY.format(allowed="'self'" if live else "'none'")


def as_script(data: Mapping[str, Any]) -> str:
    """JSON that no text in it can end: a name such as `</script>` stays data."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _template(name: str) -> str:
    return files("vitsearch.report").joinpath("template", name).read_text(encoding="utf-8")


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
