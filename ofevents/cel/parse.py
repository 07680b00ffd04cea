"""Text to tree, with celpy's grammar.

Only the grammar file of celpy is used, loaded by lark on the first expression: its
package is not imported, because its evaluator changes the process's recursion limit
on the way. What we replace in the grammar, and why:

- string and bytes literals: celpy's patterns backtrack without end on a string that
  is not closed; ours are linear (and `lexis.scan` has refused such a text before);
- numbers: `42.charAt(0)` is a call, so a double needs a digit behind its point;
- members and literals: trailing commas, quoted fields (a.`b-c`), and the optional
  syntax of the specification (`a.?b`, `a[?k]`, `[?x]`, `{?k: v}`).

LALR parsing and the building of nodes are loops, so no text can exhaust the stack.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ofevents.cel.build import Builder, Mistake
from ofevents.cel.lexis import scan
from ofevents.cel.limits import Limits
from ofevents.cel.problems import CelError, Problem, problem_at
from ofevents.cel.tree import Node, TooDeep

if TYPE_CHECKING:
    from lark import Lark, Token

# Replaces the rules and terminals of celpy's grammar that have the same name; the rest is new.
# No two alternatives of a string pattern match the same character, so none backtracks.
_OURS = r"""
member : member_dot | member_dot_arg | member_index | member_object | primary
member_dot : member "." field | member "." "?" field
member_dot_arg : member "." IDENT "(" [exprlist] ")"
member_index : member "[" expr "]" | member "[" "?" expr "]"
member_object : member "{" "}" | member "{" fieldinits "}" | member "{" fieldinits "," "}"
field : IDENT | QUOTED
list_lit : "[" "]" | "[" items "]" | "[" items "," "]"
items : item | items "," item
item : expr | "?" expr
map_lit : "{" "}" | "{" mapinits "}" | "{" mapinits "," "}"
mapinits : mapinit | mapinits "," mapinit
mapinit : expr ":" expr | "?" expr ":" expr
fieldinits : fieldinit | fieldinits "," fieldinit
fieldinit : field ":" expr | "?" field ":" expr
INT_LIT.1 : /-?(0x[0-9a-fA-F]+|[0-9]+)/
UINT_LIT.2 : /-?(0x[0-9a-fA-F]+|[0-9]+)[uU]/
FLOAT_LIT.3 : /-?([0-9]*\.[0-9]+([eE][+-]?[0-9]+)?|[0-9]+[eE][+-]?[0-9]+)/
COOKED : /"([^"\\\r\n]|\\[^\r\n])*"/ | /'([^'\\\r\n]|\\[^\r\n])*'/
RAW : /[rR]"[^"\r\n]*"/ | /[rR]'[^'\r\n]*'/
LONG_COOKED : /"{3}([^"\\]|\\[\s\S]|"(?!""))*"{3}/ | /'{3}([^'\\]|\\[\s\S]|'(?!''))*'{3}/
LONG_RAW : /[rR]"{3}([^"]|"(?!""))*"{3}/ | /[rR]'{3}([^']|'(?!''))*'{3}/
STRING_LIT.2 : COOKED | RAW
MLSTRING_LIT.3 : LONG_COOKED | LONG_RAW
BYTES_LIT.4 : /[bB]/ (LONG_COOKED | LONG_RAW | COOKED | RAW)
QUOTED : /`[^`\r\n]+`/
RESERVED :
"""
_RULE = re.compile(r"^(\w+)(?:\.\d+)?[ \t]*:.*(?:\n[ \t]+.*)*", re.MULTILINE)


def _grammar() -> str:
    spec = importlib.util.find_spec("celpy")
    if spec is None or spec.origin is None:
        raise ImportError("ofevents needs cel-python: pip install cel-python")
    text = (Path(spec.origin).parent / "cel.lark").read_text(encoding="utf-8")
    ours = {match[1]: match[0] for match in _RULE.finditer(_OURS)}
    kept = _RULE.sub(lambda match: "" if match[1] in ours else match[0], text)
    return "\n".join([kept, *(rule for name, rule in ours.items() if name != "RESERVED")])


def _keyword(token: Token) -> Token:
    # celpy's BOOL_LIT is an alternative of two words, which lark does not tell from a name.
    return token.update(type="BOOL_LIT") if token in ("true", "false") else token


@cache
def _parser() -> Callable[[str], Any]:
    from lark import Lark  # 60 ms that only those pay who have an expression

    lark: Lark = Lark(
        _grammar(),
        parser="lalr",
        start="expr",
        maybe_placeholders=False,
        keep_all_tokens=True,
        g_regex_flags=0,
        lexer_callbacks={"IDENT": _keyword},
        transformer=Builder(),
    )
    return lark.parse


def parse(text: str, limits: Limits) -> Node:
    """The tree of the expression, macros not yet expanded. Raises CelError."""
    scan(text, limits)
    if not text.strip():
        raise CelError([problem_at(text, 0, "the expression is empty")])
    from lark.exceptions import UnexpectedCharacters, UnexpectedInput, UnexpectedToken

    try:
        root = _parser()(text)
    except TooDeep as error:
        message = f"nested or chained too deeply: {limits.depth} levels are allowed"
        raise CelError([problem_at(text, error.args[0], message)]) from None
    except Mistake as error:
        raise CelError([problem_at(text, error.offset, error.message)]) from None
    except UnexpectedToken as error:
        raise CelError([_unexpected(text, error.token)]) from None
    except UnexpectedCharacters as error:
        offset = error.pos_in_stream or 0
        raise CelError([_misplaced(text, offset, text[offset])]) from None
    except UnexpectedInput:
        raise CelError([problem_at(text, len(text), "the expression ends too early")]) from None
    if not isinstance(root, Node):
        raise CelError([problem_at(text, 0, "this is no expression")])
    if root.depth > limits.depth:
        message = f"nested or chained too deeply: {root.depth} levels, {limits.depth} are allowed"
        raise CelError([problem_at(text, _deepest(root).pos, message)])
    return root


_HINTS = {"=": "==", "and": "&&", "or": "||", "not": "!", "&": "&&", "|": "||", "<>": "!="}


def _unexpected(text: str, token: Token) -> Problem:
    if token.type == "$END":
        return problem_at(text, len(text.rstrip()), "the expression ends too early")
    return _misplaced(text, token.start_pos or 0, str(token))


def _misplaced(text: str, offset: int, found: str) -> Problem:
    hint = f"; write {_HINTS[found]}" if found in _HINTS else ""
    return problem_at(text, offset, f"{found[:40]!r} is not expected here{hint}")


def _deepest(root: Node) -> Node:
    while children := root.children():
        root = max(children, key=lambda child: child.depth)
    return root
