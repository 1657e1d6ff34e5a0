"""Lines, dots and text as SVG and as PNG, without a browser."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Literal

Where = tuple[float, float]
"""Pixels from the left and from the top."""
SHARPNESS = 2
"""Pixels of the PNG for each pixel of the SVG."""
FINER = 2
"""The PNG is drawn larger by this factor and then reduced, which smooths its edges."""
FONT = "system-ui, 'Segoe UI', Roboto, 'Noto Sans', Helvetica, Arial, sans-serif"


@dataclass(frozen=True)
class Line:
    """A line through points; `dash`: the length of its dashes, 0 for none."""

    points: tuple[Where, ...]
    colour: str
    width: float = 1.0
    dash: float = 0.0


@dataclass(frozen=True)
class Dot:
    """A filled mark of this radius."""

    at: Where
    radius: float
    colour: str
    form: Literal["circle", "square", "diamond"] = "circle"

    def corners(self) -> tuple[Where, ...]:
        (x, y), r = self.at, self.radius
        if self.form == "square":
            return (x - r, y - r), (x + r, y - r), (x + r, y + r), (x - r, y + r)
        return (x, y - 1.3 * r), (x + 1.3 * r, y), (x, y + 1.3 * r), (x - 1.3 * r, y)


@dataclass(frozen=True)
class Text:
    """One line of text; `turned` reads from bottom to top. The point is at the middle of its height."""

    at: Where
    text: str
    size: float
    colour: str
    anchor: Literal["start", "middle", "end"] = "start"
    turned: bool = False


Shape = Line | Dot | Text


@dataclass(frozen=True)
class Picture:
    """Shapes on a white ground; later ones cover earlier ones. `title` is for those who do not see it."""

    width: int
    height: int
    title: str
    shapes: tuple[Shape, ...]

    def to_svg(self) -> str:
        size = f'width="{self.width}" height="{self.height}" viewBox="0 0 {self.width} {self.height}"'
        title = escape(self.title)
        head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{title}" font-family="{FONT}">'
        body = "\n".join(map(_svg, self.shapes))
        return f'{head}\n<title>{title}</title>\n<rect width="100%" height="100%" fill="#ffffff"/>\n{body}\n</svg>\n'

    def to_png(self) -> bytes:
        """Has `SHARPNESS` times as many pixels on each side as the SVG."""
        from PIL import Image, ImageDraw  # Pillow: only for those who want a picture

        scale = SHARPNESS * FINER
        image = Image.new("RGB", (self.width * scale, self.height * scale), "#ffffff")
        draw = ImageDraw.Draw(image)
        for shape in self.shapes:
            _paint(image, draw, shape, scale)
        file = io.BytesIO()
        smooth = image.resize((self.width * SHARPNESS, self.height * SHARPNESS), Image.Resampling.LANCZOS)
        smooth.save(file, "PNG", optimize=True)
        return file.getvalue()


_ANCHORS = {"start": "lm", "middle": "mm", "end": "rm"}
"""Pillow's words: left, middle or right, at half the height."""


def _svg(shape: Shape) -> str:
    match shape:
        case Line():
            points = " ".join(f"{x:.1f},{y:.1f}" for x, y in shape.points)
            look = f'fill="none" stroke="{shape.colour}" stroke-width="{shape.width:g}"'
            dashes = f' stroke-dasharray="{shape.dash:g}"' if shape.dash else ""
            return f'<polyline points="{points}" {look}{dashes}/>'
        case Dot(form="circle"):
            x, y = shape.at
            return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{shape.radius:g}" fill="{shape.colour}"/>'
        case Dot():
            points = " ".join(f"{x:.1f},{y:.1f}" for x, y in shape.corners())
            return f'<polygon points="{points}" fill="{shape.colour}"/>'
        case Text():
            x, y = shape.at
            turn = f' transform="rotate(-90 {x:.1f} {y:.1f})"' if shape.turned else ""
            look = f'font-size="{shape.size:g}" fill="{shape.colour}" text-anchor="{shape.anchor}"'
            return f'<text x="{x:.1f}" y="{y:.1f}" dominant-baseline="central" {look}{turn}>{escape(shape.text)}</text>'


def _paint(image: Any, draw: Any, shape: Shape, scale: int) -> None:
    """Draw a shape on a Pillow image, in place."""
    match shape:
        case Line():
            points = [(x * scale, y * scale) for x, y in shape.points]
            for piece in _dashed(points, shape.dash * scale) if shape.dash else [points]:
                draw.line(piece, fill=shape.colour, width=max(1, round(shape.width * scale)), joint="curve")
        case Dot(form="circle"):
            (x, y), r = shape.at, shape.radius
            draw.ellipse([(x - r) * scale, (y - r) * scale, (x + r) * scale, (y + r) * scale], fill=shape.colour)
        case Dot():
            draw.polygon([(x * scale, y * scale) for x, y in shape.corners()], fill=shape.colour)
        case Text():
            _write(image, draw, shape, scale)


def _write(image: Any, draw: Any, text: Text, scale: int) -> None:
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(text.size * scale)
    x, y = text.at[0] * scale, text.at[1] * scale
    if not text.turned:
        draw.text((x, y), text.text, fill=text.colour, font=font, anchor=_ANCHORS[text.anchor])
        return
    left, top, right, bottom = font.getbbox(text.text)
    size = int(right - left) + 2, int(bottom - top) + 2
    label = Image.new("L", size, 0)
    ImageDraw.Draw(label).text((1 - left, 1 - top), text.text, fill=255, font=font)
    turned = label.rotate(90, expand=True)
    image.paste(text.colour, (round(x - turned.width / 2), round(y - turned.height / 2)), turned)


def _dashed(points: Sequence[Where], dash: float) -> list[list[Where]]:
    """The dashes of a straight line."""
    (x0, y0), (x1, y1) = points[0], points[-1]
    length = max(abs(x1 - x0), abs(y1 - y0)) or 1.0
    dashes, at = [], 0.0
    while at < length:
        to = min(at + dash, length)
        dashes.append([(x0 + (x1 - x0) * part / length, y0 + (y1 - y0) * part / length) for part in (at, to)])
        at += 2 * dash
    return dashes
