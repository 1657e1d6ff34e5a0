"""A small language that chooses models: `cpu_ms_p50 < 12 and accuracy > 0.9`.

    expression  = conjunction {"or" conjunction}
    conjunction = negation {"and" negation}
    negation    = "not" negation | "(" expression ")" | comparison
    comparison  = operand operator operand {operator operand}
    operator    = "<" | "<=" | ">" | ">=" | "==" | "=" | "!="
    operand     = the name of a metric or knob | number | word | "text in quotes"

It compares and nothing else: no code is run. A comparison with a value that was not measured is neither true nor false,
so that neither it nor its negation chooses a model (three-valued logic, as in SQL).
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, Protocol, TypeAlias

from vitsearch.errors import QueryError, UnknownName

Value: TypeAlias = float | str | None
Kind = Literal["number", "word"]
Compare = Callable[[float | str, float | str], bool]

_TOKEN = re.compile(
    r"""\s*(?:(?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)(?![\w.:%])
    |(?P<operator><=|>=|==|!=|<|>|=)|(?P<bracket>[()])
    |(?P<quoted>"[^"]*"|'[^']*')|(?P<word>[\w.:%@/+-]+))""",
    re.VERBOSE,
)
_ORDERS: dict[str, Compare] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_OPERATORS: dict[str, Compare] = {**_ORDERS, "==": operator.eq, "=": operator.eq, "!=": operator.ne}
_JOINING = ("and", "or", "not")
DEEPEST = 50
"""Brackets and negations inside each other."""


class Expression(Protocol):
    """What a text means: None where a value that decides was not measured."""

    def holds(self, values: Mapping[str, Value]) -> bool | None: ...

    def comparisons(self) -> tuple[Predicate, ...]:
        """What it compares, from left to right."""
        ...


@dataclass(frozen=True)
class Operand:
    """`name` is that of a metric or knob; None for a literal, whose `text` counts."""

    text: str
    kind: Kind
    name: str | None = None

    def value(self, values: Mapping[str, Value], kind: Kind) -> Value:
        if self.name is not None:
            return values.get(self.name)
        return float(self.text) if kind == "number" else self.text


@dataclass(frozen=True)
class Predicate:
    """Two operands, of which at least one is a name, and how they are compared."""

    left: Operand
    operator: str
    right: Operand
    kind: Kind

    def holds(self, values: Mapping[str, Value]) -> bool | None:
        left, right = self.left.value(values, self.kind), self.right.value(values, self.kind)
        return None if left is None or right is None else _OPERATORS[self.operator](left, right)

    def comparisons(self) -> tuple[Predicate, ...]:
        return (self,)


@dataclass(frozen=True)
class _Negation:
    negated: Expression

    def holds(self, values: Mapping[str, Value]) -> bool | None:
        negated = self.negated.holds(values)
        return None if negated is None else not negated

    def comparisons(self) -> tuple[Predicate, ...]:
        return self.negated.comparisons()


@dataclass(frozen=True)
class _Conjunction:
    parts: tuple[Expression, ...]

    def holds(self, values: Mapping[str, Value]) -> bool | None:
        verdicts = [part.holds(values) for part in self.parts]
        return False if False in verdicts else None if None in verdicts else True

    def comparisons(self) -> tuple[Predicate, ...]:
        return tuple(comparison for part in self.parts for comparison in part.comparisons())


@dataclass(frozen=True)
class _Disjunction:
    parts: tuple[Expression, ...]

    def holds(self, values: Mapping[str, Value]) -> bool | None:
        verdicts = [part.holds(values) for part in self.parts]
        return True if True in verdicts else None if None in verdicts else False

    def comparisons(self) -> tuple[Predicate, ...]:
        return tuple(comparison for part in self.parts for comparison in part.comparisons())


def parse(text: str, names: Mapping[str, Kind]) -> Expression:
    """The meaning of `text`, whose names are those of `names`.

    Raises `QueryError` with the place and what is expected there, and
    `UnknownName` with the names that are allowed.
    """
    return _Parser(text, names).whole()


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    at: int


class _Parser:
    """Reads from left to right; each method reads one rule of the grammar."""

    def __init__(self, text: str, names: Mapping[str, Kind]) -> None:
        self._text = text
        self._names = names
        self._tokens = list(self._split())
        self._next = 0
        self._depth = 0

    def whole(self) -> Expression:
        expression = self._disjunction()
        if self._next < len(self._tokens):
            raise self._expected("'and', 'or' or the end")
        return expression

    def _disjunction(self) -> Expression:
        parts = [self._conjunction()]
        while self._take("or"):
            parts.append(self._conjunction())
        return parts[0] if len(parts) == 1 else _Disjunction(tuple(parts))

    def _conjunction(self) -> Expression:
        parts = [self._negation()]
        while self._take("and"):
            parts.append(self._negation())
        return parts[0] if len(parts) == 1 else _Conjunction(tuple(parts))

    def _negation(self) -> Expression:
        self._depth += 1
        if self._depth > DEEPEST:
            raise QueryError(f"{self._text!r}: more than {DEEPEST} brackets or 'not' inside each other")
        try:
            if self._take("not"):
                return _Negation(self._negation())
            if self._take("("):
                expression = self._disjunction()
                if not self._take(")"):
                    raise self._expected("')'")
                return expression
            return self._comparisons()
        finally:
            self._depth -= 1

    def _comparisons(self) -> Expression:
        operands, operators = [self._operand()], []
        while self._peek("operator"):
            operators.append(self._tokens[self._next].text)
            self._next += 1
            operands.append(self._operand())
        if not operators:
            raise self._expected("one of " + " ".join(_OPERATORS))
        parts = [
            self._comparison(left, word, right)
            for (left, right), word in zip(pairwise(operands), operators, strict=True)
        ]
        return parts[0] if len(parts) == 1 else _Conjunction(tuple(parts))

    def _operand(self) -> Operand:
        if self._next == len(self._tokens) or self._tokens[self._next].kind in ("operator", "bracket"):
            raise self._expected("a name, a number or a word")
        token = self._tokens[self._next]
        if token.text in _JOINING and token.kind == "word":
            raise self._expected("a name, a number or a word")
        self._next += 1
        if token.kind == "word" and token.text in self._names:
            return Operand(token.text, self._names[token.text], token.text)
        return Operand(token.text, "number" if token.kind == "number" else "word")

    def _comparison(self, left: Operand, word: str, right: Operand) -> Predicate:
        kinds: Sequence[Kind] = [operand.kind for operand in (left, right) if operand.name is not None]
        if not kinds:
            wrong = next((operand.text for operand in (left, right) if operand.kind == "word"), None)
            if wrong is None:
                raise QueryError(f"{self._text!r}: {left.text} {word} {right.text} names no metric and no knob")
            raise UnknownName("metric or knob", wrong, self._names)
        kind, named = kinds[0], left if left.name else right
        other = right if named is left else left
        if len(set(kinds)) == 2:
            raise QueryError(f"{self._text!r}: {left.text} and {right.text} cannot be compared: only one is a number")
        if kind == "number" and other.kind == "word":
            near = UnknownName("metric or knob", other.text, self._names)
            raise QueryError(f"{self._text!r}: {named.text} is a number, but {other.text!r} is not: {near}")
        if kind == "word" and word in _ORDERS:
            raise QueryError(f"{self._text!r}: {named.text} is a word, which has no order; allowed: == and !=")
        return Predicate(left, word, right, kind)

    def _peek(self, kind: str) -> bool:
        return self._next < len(self._tokens) and self._tokens[self._next].kind == kind

    def _take(self, text: str) -> bool:
        """Whether the next token is this word or bracket, which is read then."""
        token = self._tokens[self._next] if self._next < len(self._tokens) else None
        if token is None or token.text != text or token.kind not in ("word", "bracket"):
            return False
        self._next += 1
        return True

    def _expected(self, what: str) -> QueryError:
        if self._next == len(self._tokens):
            return QueryError(f"{self._text!r}: {what} is expected at the end")
        token = self._tokens[self._next]
        return QueryError(f"{self._text!r}: {what} is expected at character {token.at + 1}, not {token.text!r}")

    def _split(self) -> Sequence[_Token]:
        tokens, at = [], 0
        while self._text[at:].strip():
            match = _TOKEN.match(self._text, at)
            if match is None or match.lastgroup is None:
                at += len(self._text[at:]) - len(self._text[at:].lstrip())
                raise QueryError(f"{self._text!r}: {self._text[at]!r} at character {at + 1} cannot be read")
            kind, word = match.lastgroup, match[match.lastgroup]
            tokens.append(_Token(kind, word[1:-1] if kind == "quoted" else word, match.start(kind)))
            at = match.end()
        return tokens
