"""Lines, dots and text as SVG and PNG."""

from __future__ import annotations

import io
from xml.etree import ElementTree

import pytest
from PIL import Image

from vitsearch.report.shapes import SHARPNESS, Dot, Line, Picture, Text

NAMESPACE = "{http://www.w3.org/2000/svg}"


def picture(*shapes):
    return Picture(100, 60, "a <title>", shapes)


def pixels(*shapes):
    return Image.open(io.BytesIO(picture(*shapes).to_png())).convert("RGB")


def test_texts_are_escaped():
    root = ElementTree.fromstring(picture(Text((1, 2), "<b> & 'c'", 12, "#000000")).to_svg())
    assert root.get("aria-label") == "a <title>"
    assert root.find(f"{NAMESPACE}text").text == "<b> & 'c'"


def test_the_png_is_sharper_than_the_svg():
    assert pixels().size == (100 * SHARPNESS, 60 * SHARPNESS)


@pytest.mark.parametrize("form", ["circle", "square", "diamond"])
def test_a_dot_is_where_it_should_be(form):
    image = pixels(Dot((30, 20), 8, "#0072b2", form))
    assert image.getpixel((30 * SHARPNESS, 20 * SHARPNESS)) == (0, 0x72, 0xB2)
    assert image.getpixel((60 * SHARPNESS, 20 * SHARPNESS)) == (255, 255, 255)


def test_a_dashed_line_has_gaps():
    image = pixels(Line(((0, 30), (100, 30)), "#000000", 2, dash=10))
    row = [image.getpixel((x, 30 * SHARPNESS))[0] for x in range(200)]
    assert sum(grey < 64 for grey in row) == pytest.approx(100, abs=10)
    assert sum(grey > 192 for grey in row) == pytest.approx(100, abs=10)


@pytest.mark.parametrize("anchor", ["start", "middle", "end"])
def test_text_stands_at_its_anchor(anchor):
    image = pixels(Text((50, 30), "WWW", 14, "#000000", anchor))
    columns = [x / SHARPNESS for x in range(200) if any(image.getpixel((x, y)) != (255, 255, 255) for y in range(120))]
    edge = {"start": min(columns), "end": max(columns), "middle": (min(columns) + max(columns)) / 2}[anchor]
    assert edge == pytest.approx(50, abs=3)


def test_turned_text_is_higher_than_wide():
    image = pixels(Text((50, 30), "WWWW", 12, "#000000", "middle", turned=True))
    dark = [(x, y) for x in range(200) for y in range(120) if image.getpixel((x, y))[0] < 128]
    xs, ys = zip(*dark, strict=True)
    assert max(ys) - min(ys) > 2 * (max(xs) - min(xs))
