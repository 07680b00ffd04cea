"""The guard before the lexer, and what string and number literals mean.

One linear scan finds what would make the lexer backtrack or the parser's message
unclear: strings that never end, brackets that do not match, nesting that is too
deep. `parse.py` runs it first; no text reaches celpy's grammar without it.
"""

from __future__ import annotations

import re

from ofevents.cel.limits import Limits
from ofevents.cel.problems import CelError, problem_at
from ofevents.cel.values import INT_MAX, INT_MIN, UINT_MAX, UInt

_TOKEN = re.compile(
    r"""(?P<comment>//[^\r\n]*)"""
    r"""|(?<![A-Za-z0-9_])(?P<prefix>[rRbB]|[bB][rR])?(?P<quote>\"{3}|'{3}|["'])"""
    r"""|(?P<tick>`)|(?P<open>[\[({])|(?P<close>[\])}])|(?P<word>[A-Za-z0-9_]+(?:\.[0-9]+)?)"""
)
_CLOSING = {"(": ")", "[": "]", "{": "}"}


def scan(text: str, limits: Limits) -> None:
    """Raise CelError when the text is too long or deep, or has an open string or bracket."""
    if len(text) > limits.length:
        message = (
            f"the expression has {len(text):,} characters, at most {limits.length:,} are allowed"
        )
        raise CelError([problem_at(text, 0, message)])
    offset = 0
    stack: list[int] = []
    terms = 0
    while match := _TOKEN.search(text, offset):
        offset = match.end()
        terms += bool(match["word"] or match["quote"])
        if terms > limits.terms:
            message = f"the expression has more than {limits.terms:,} names and literals"
            raise CelError([problem_at(text, match.start(), message)])
        if match["quote"]:
            raw = "r" in (match["prefix"] or "").lower()
            offset = _string_end(text, match.start(), offset, match["quote"], raw=raw)
        elif match["tick"]:
            offset = _tick_end(text, match.start())
        elif match["open"]:
            stack.append(match.start())
            if len(stack) > limits.depth:
                message = f"nested too deeply: at most {limits.depth} levels are allowed"
                raise CelError([problem_at(text, match.start(), message)])
        elif match["close"]:
            _close(text, stack, match.start())
    if stack:
        opened = text[stack[-1]]
        message = f"this {opened} is never closed: {_CLOSING[opened]} is missing"
        raise CelError([problem_at(text, stack[-1], message)])


def _close(text: str, stack: list[int], offset: int) -> None:
    found = text[offset]
    if not stack:
        raise CelError([problem_at(text, offset, f"this {found} closes nothing")])
    opened = text[stack.pop()]
    if _CLOSING[opened] != found:
        message = f"expected {_CLOSING[opened]} for the {opened} before, found {found}"
        raise CelError([problem_at(text, offset, message)])


def _string_end(text: str, start: int, offset: int, quote: str, *, raw: bool) -> int:
    while offset < len(text):
        if text.startswith(quote, offset):
            return offset + len(quote)
        char = text[offset]
        if len(quote) == 1 and char in "\r\n":
            break
        offset += 2 if char == "\\" and not raw else 1
    hint = "; strings over several lines need three quotes" if "\n" in text[start:] else ""
    raise CelError(
        [problem_at(text, start, f"this string is never closed: {quote} is missing{hint}")]
    )


def _tick_end(text: str, start: int) -> int:
    end = text.find("`", start + 1)
    if end < 0 or "\n" in text[start:end]:
        raise CelError([problem_at(text, start, "this quoted field is never closed: ` is missing")])
    return end + 1


_SIMPLE = {
    "a": 7, "b": 8, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11,
    "\\": 92, "?": 63, '"': 34, "'": 39, "`": 96,
}  # fmt: skip
_ESCAPE = re.compile(
    r"\\(?:([abfnrtv\\?\"'`])|([0-3][0-7]{2})|[xX]([0-9a-fA-F]{2})"
    r"|(u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8})|([\s\S]?))"
)


def literal_text(source: str) -> str | bytes:
    """The value of a string or bytes literal. Raises ValueError with the sentence to show."""
    quote_at = next(index for index, char in enumerate(source) if char in "\"'")
    prefix = source[:quote_at].lower()
    width = 3 if source[quote_at : quote_at + 3] in ('"""', "'''") and len(source) > 5 else 1
    body = source[quote_at + width : -width]
    if "b" in prefix:
        return body.encode() if "r" in prefix else _bytes(body)
    return body if "r" in prefix or "\\" not in body else _ESCAPE.sub(_char, body)


def _code(match: re.Match[str]) -> tuple[int, bool]:
    """The escape's number, and whether it is a code point (`u`) rather than a byte."""
    simple, octal, hexadecimal, point, wrong = match.groups()
    if simple:
        return _SIMPLE[simple], False
    if octal:
        return int(octal, 8), False
    if hexadecimal:
        return int(hexadecimal, 16), False
    if point:
        code = int(point[1:], 16)
        if 0xD800 <= code <= 0xDFFF or code > 0x10FFFF:
            raise ValueError(f"\\{point} is no Unicode character")
        return code, True
    raise ValueError(
        f"\\{wrong} is no escape; known are \\a \\b \\f \\n \\r \\t \\v \\\\ \\\" \\' \\` \\? "
        "\\xFF \\377 \\uFFFF \\UFFFFFFFF"
    )


def _char(match: re.Match[str]) -> str:
    return chr(_code(match)[0])


def _bytes(body: str) -> bytes:
    parts: list[bytes] = []
    offset = 0
    for match in _ESCAPE.finditer(body):
        code, point = _code(match)
        if point:
            raise ValueError(f"{match[0]} is not allowed in bytes; write its UTF-8 bytes")
        parts += [body[offset : match.start()].encode(), bytes([code])]
        offset = match.end()
    return b"".join([*parts, body[offset:].encode()])


def literal_int(source: str) -> int:
    """An int or uint literal. Raises ValueError when it is out of range."""
    unsigned = source[-1] in "uU"
    digits = source[:-1] if unsigned else source
    value = int(digits, 16) if "x" in digits else int(digits[:40])
    if unsigned:
        if not 0 <= value <= UINT_MAX:
            raise ValueError(f"{source} is out of the range of uint, 0 to 18446744073709551615")
        return UInt(value)
    if not INT_MIN <= value <= INT_MAX:
        raise ValueError(f"{source[:40]} is out of the range of int, which has 64 bits")
    return value
