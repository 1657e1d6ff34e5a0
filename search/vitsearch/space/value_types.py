"""The kinds of values in a space file, each with its own error messages."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AllowInfNan, Field, GetCoreSchemaHandler, Strict
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from vitsearch.core.data_sources import group_problem, source_problem
from vitsearch.core.image_size import ImageSize
from vitsearch.core.precisions import AUTO, MOST_BATCH
from vitsearch.storage.addresses import files_problem, masked

Int = Annotated[int, Strict()]
Number = Annotated[float, Strict(), AllowInfNan(False)]
Text = Annotated[str, Strict(), Field(min_length=1)]
Direction = Literal["maximize", "minimize"]
Ratio = Annotated[Number, Field(ge=0, le=0.95)]

TAGS = frozenset({"<one>", "<list>", "<range>", "<word>", "<number>", "<flag>", "<mapping>", "<python>", "<onnx>"})


def problem(message: str) -> PydanticCustomError:
    """A validation error with our own message; braces in `message` stay as they are."""
    return PydanticCustomError("vitsearch", "{message}", {"message": message})


class Either:
    """A union of several kinds, in which `tag_of(value)` decides which kind a value is meant to be.

    Unlike a plain union it reports only the problems with that kind.
    """

    def __init__(self, tag_of: Callable[[Any], str], kinds: dict[str, Any]) -> None:
        self.tag_of = tag_of
        self.kinds = kinds

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        choices = {tag: handler.generate_schema(kind) for tag, kind in self.kinds.items()}
        return core_schema.tagged_union_schema(choices, discriminator=self.tag_of)


def word_or(other: str) -> Callable[[Any], str]:
    """A tag function: text is a `<word>`, any other value is `other`."""
    return lambda value: "<word>" if isinstance(value, str) else other


def list_or(other: str) -> Callable[[Any], str]:
    """A tag function: a list is a `<list>`, any other value is `other`."""
    return lambda value: "<list>" if isinstance(value, list | tuple) else other


class Choices:
    """One value, a list of distinct values or, with `span`, a range; the result is always a tuple.

    `least` is the smallest length of a list; `name_of` gives what must be distinct. `alone` is the kind of a value that
    stands in no list, where some values are lists.
    """

    def __init__(
        self,
        item: Any,
        span: Any = None,
        least: int = 1,
        name_of: Callable[[Any], Any] = lambda it: it,
        alone: Any = None,
    ) -> None:
        self.item = item
        self.alone = item if alone is None else alone
        self.span = span
        self.least = least
        self.name_of = name_of

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        item = handler.generate_schema(self.item)
        alone = handler.generate_schema(self.alone)
        single = core_schema.no_info_after_validator_function(lambda value: (value,), alone)
        many = core_schema.tuple_variable_schema(item, min_length=self.least)
        kinds: dict[Any, CoreSchema] = {
            "<one>": single,
            "<list>": core_schema.no_info_after_validator_function(self._distinct, many),
        }
        if self.span is not None:
            span = handler.generate_schema(self.span)
            kinds["<range>"] = core_schema.no_info_after_validator_function(lambda it: it.expanded(), span)
        return core_schema.tagged_union_schema(kinds, discriminator=self._tag)

    def _tag(self, value: Any) -> str:
        if isinstance(value, list | tuple):
            return "<list>"
        return "<range>" if self.span is not None and isinstance(value, dict) else "<one>"

    def _distinct(self, values: tuple[Any, ...]) -> tuple[Any, ...]:
        names = [self.name_of(value) for value in values]
        twice = next((name for index, name in enumerate(names) if name in names[:index]), None)
        if twice is not None:
            raise problem(f"{twice if isinstance(twice, ImageSize) else repr(twice)} is listed twice")
        return values


def one_for_each(item: Any) -> dict[str, Any]:
    """The kinds of one `item` for all channels of an image, or of one for each; the result is a tuple."""
    return {
        "<list>": Annotated[tuple[item, ...], Field(min_length=1, max_length=3)],
        "<number>": Annotated[item, AfterValidator(lambda value: (value,))],
    }


def height_and_width(sides: tuple[int, ...]) -> ImageSize:
    """The size of images that are no squares."""
    if len(sides) != 2:
        raise no_size(str(list(sides)))
    return ImageSize(*sides)


def no_size(shown: str) -> PydanticCustomError:
    """The error for a value that is no size of images."""
    return problem(f"{shown} is not a size of images; allowed: a side, or [height, width]")


def channel_number(least: float) -> Callable[[float], float]:
    """A validator of a mean or deviation of pixels in [0, 1]."""

    def read(value: float) -> float:
        if not least <= value <= 1:
            hint = f"; of pixels up to 255, divide it by 255: {value / 255:.4g}" if 1 < value <= 255 else ""
            raise problem(f"{value:g} is out of range; allowed: {least:g} to 1, for pixels in [0, 1]{hint}")
        return value

    return read


def mixing_alpha(value: float) -> float:
    """Check the alpha of mixup or CutMix. A Beta distribution below 0.01 draws only 0 and 1, and then fails in its
    arithmetic."""
    if 0 < value < 0.01:
        raise problem(f"{value:g} is too small to mix images; allowed: 0 (off), or 0.01 to 10")
    return value


def rising_rungs(rungs: tuple[int, ...]) -> tuple[int, ...]:
    if len(rungs) < 2 or rungs[0] != 0 or any(b <= a for a, b in zip(rungs, rungs[1:], strict=False)):
        raise problem(
            f"{list(rungs)} is not a valid list of rungs; allowed: a rising list that begins with 0, such as [0, 1, 3]"
        )
    return rungs


_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?", re.ASCII)


def seconds(value: Any) -> float | None:
    """Parse `8h`, `1h30m`, `45s` or a number of seconds; `none` means no limit."""
    if value is None or value == "none":
        return None
    value_s: float | None = None
    if isinstance(value, str) and value and (match := _DURATION.fullmatch(value)):
        hours, minutes, rest = (float(part or 0) for part in match.groups())
        value_s = hours * 3600 + minutes * 60 + rest
    elif isinstance(value, int | float) and not isinstance(value, bool):
        value_s = float(value)
    if value_s is None or not 0 < value_s < math.inf:
        shown = repr(value) if isinstance(value, str | int | float) else "this value"
        raise problem(f"{shown} is not a valid duration; allowed: 8h, 1h30m, 45s, seconds above 0, or none")
    return value_s


def duration_up_to(max_minutes: int) -> Callable[[Any], float]:
    """A validator like `seconds` that refuses `none` and durations above `max_minutes`."""

    def read(value: Any) -> float:
        value_s = seconds(value)
        if value_s is None or value_s > 60 * max_minutes:
            wrong = "needs a duration, not none" if value_s is None else f"{value!r} is too long"
            raise problem(f"{wrong}; allowed: 45s, 2m or seconds above 0, up to {max_minutes}m")
        return value_s

    return read


def token_name(value: Any) -> str:
    """Check `env:VITSEARCH_NAME`: a file that somebody else wrote can name no other secret of this user. A token
    itself is refused, and the message does not show it."""
    if isinstance(value, str) and re.fullmatch(r"env:[A-Za-z_][A-Za-z0-9_]*", value):
        if re.fullmatch(r"env:VITSEARCH_[A-Za-z0-9_]+", value):
            return value
        raise problem(f"{value!r} may hold a secret of another program; allowed: names that begin with env:VITSEARCH_")
    raise problem("a token does not belong in a space file; write env:VITSEARCH_NAME, an environment variable")


def agent_url(value: str) -> str:
    if "@" in value:
        raise problem("credentials do not belong in a url; use 'token: env:VITSEARCH_NAME'")
    if not re.fullmatch(r"https?://[A-Za-z0-9.\-_\[\]:]+(/[^\s?#]*)?", value):
        raise problem(f"{value!r} is not a valid address of an agent; write it like https://nano.local:8470")
    return value.rstrip("/")


def certificate_digest(value: str) -> str:
    if re.fullmatch(r"sha256:[0-9a-f]{64}", value):
        return value
    raise problem(f"{value!r} is not a valid fingerprint; write sha256: and 64 hexadecimal digits")


def batch_word(value: Any) -> str:
    """A number of images in a run as a word, `auto` or `open`."""
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if text in (AUTO, "open"):
        return str(text)
    if isinstance(text, str) and re.fullmatch(r"[1-9]\d{0,9}", text, re.ASCII) and int(text) <= MOST_BATCH:
        return text
    shown = repr(value) if isinstance(value, str | int | float) else "this value"
    shown = shown.lower() if isinstance(value, bool) else shown
    raise problem(f"{shown} is not a valid batch; allowed: auto, open, or a whole number from 1 to {MOST_BATCH}")


def decides_alone(batches: tuple[str, ...]) -> tuple[str, ...]:
    """Refuse `auto` beside other values of a knob."""
    if len(batches) > 1 and AUTO in batches:
        raise problem("auto decides between 1 and open by itself; list numbers and open, or auto alone")
    return batches


def rising_blocks(value: tuple[int, ...]) -> tuple[int, ...]:
    if any(after <= before for before, after in itertools.pairwise(value)):
        raise problem(f"{list(value)} does not rise; list each block once, in ascending order")
    return value


def data_source(value: str) -> str:
    if wrong := source_problem(value):
        raise problem(wrong)
    return value


def group_rule(value: str) -> str:
    """Check what finds the group of an image."""
    if wrong := group_problem(value):
        raise problem(wrong)
    return value


def weights_name(value: str) -> str:
    if value in ("builtin", "hub", "none") or re.match(r"file:.+", value):
        return value
    raise problem(f"{value!r} is not a valid choice of starting weights; allowed: builtin, hub, none, file:PATH")


def network_name(value: str) -> str:
    """Check the name of a network that the user brings."""
    if re.fullmatch(r"[A-Za-z][A-Za-z0-9_\-]*", value):
        return value
    raise problem(f"{value!r} is not a valid name of a network; allowed: letters, digits, - and _, such as our_net")


def entry_point(value: str) -> str:
    """Check the function that makes a network."""
    if re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", value):
        return value
    raise problem(f"{value!r} is not a function; write package.module:function, such as ourlab.nets:make")


def own_weights(value: str) -> str:
    """Check the weights of a network that the user brings."""
    if value == "none" or value.startswith("file:"):
        return value
    raise problem(f"{value!r} is not a valid choice for a network of your own; allowed: none, file:PATH")


def files_place(value: str) -> str:
    if wrong := files_problem(value):
        raise problem(wrong)
    return value


def storage_url(value: str) -> str:
    shown = masked(value)
    if value.startswith("sqlite:"):
        if not re.match(r"sqlite:///[^?]+", value) or ":memory:" in value:
            raise problem(f"{shown!r} does not name a file; write it like sqlite:///studies/name.db")
        return value
    if value.startswith("postgresql+psycopg://"):
        return value
    hint = "; did you mean postgresql+psycopg://?" if value.startswith("postgres") else ""
    raise problem(f"{shown!r} is not a valid storage; allowed: sqlite:///FILE, postgresql+psycopg://...{hint}")
