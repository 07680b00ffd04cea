"""The fast form of an expression: one Python expression, compiled once.

It is right as long as nothing fails, and that is enough: Python's own `and`, `any` and
`[...]` give what CEL gives when no operand errs, and when anything raises, the whole
evaluation is done again by `careful.py`, which knows how errors are absorbed. So a
field is read by a plain `event["type"]`, with no test before it.

What is generated is only ever made of the parser's nodes: texts of the expression
enter as literals through repr() or as named constants, never as code.
"""

from __future__ import annotations

from ofevents.cel import strings
from ofevents.cel.functions import FUNCTIONS
from ofevents.cel.scribe import NoFastForm, Scribe, is_bool
from ofevents.cel.tree import (
    Bind,
    Call,
    Const,
    Index,
    ListLit,
    Local,
    Loop,
    MapLit,
    Node,
    Op,
    Select,
    Var,
)
from ofevents.cel.types import EVENT
from ofevents.cel.values import UInt
from ofevents.errors import EvaluationError

_ARITHMETIC = {"-": "sub", "*": "mul", "/": "div", "%": "mod"}
_ORDER = {"<": "lt", "<=": "le", ">": "gt", ">=": "ge"}
_MIRROR = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
_TEXT_TESTS = {"startsWith": "starts_with", "endsWith": "ends_with", "contains": "contains"}
_LONG_TEXT = 4096  # characters, from which on a regular expression's work is charged


class Codegen(Scribe):
    """Writes one expression as Python."""

    def source(self, node: Node) -> str:
        """The Python expression of the node."""
        match node:
            case Const():
                return self.constant(node.value)
            case Var():
                return f"b[{node.name!r}]"
            case Local():
                return f"v{node.slot}"
            case Select():
                return self._select(node)
            case Index():
                return self._index(node)
            case Op():
                return self._operator(node)
            case Call():
                return self._call(node)
            case ListLit():
                return self._list(node)
            case MapLit():
                return self._map(node)
            case Loop():
                return self._loop(node)
            case Bind():
                return self._bind(node)
        raise NoFastForm

    def condition(self, node: Node) -> str:
        """As `source`, for an operand that has to be a bool."""
        source = self.source(node)
        if is_bool(node):
            return source
        t = self.temporary()
        return f"({t} if ({t} := {source}) is True or {t} is False else boolean({t}))"

    def _select(self, node: Select) -> str:
        operand = self.source(node.operand)
        if node.test:
            t = self.temporary()
            name = repr(node.name)
            return f"({name} in {t} if type({t} := {operand}) is dict else has({t}, {name}))"
        if node.optional:
            return f"opt_select({operand}, {node.name!r})"
        return self._field(node, node.operand, operand, node.name)

    def _field(self, node: Node, owner: Node, operand: str, name: str) -> str:
        if isinstance(owner, Var | Local | Select | Index):
            source = f"{operand}[{name!r}]"
        else:
            source = f"select({operand}, {name!r})"  # Python warns of a literal with [...]
        if name == "time" and owner.type == EVENT:
            return f"event_time({source})"
        return source

    def _index(self, node: Index) -> str:
        operand = self.source(node.operand)
        key = node.key.value if isinstance(node.key, Const) else None
        if node.optional:
            return f"opt_index({operand}, {self.source(node.key)})"
        if type(key) is str:
            return self._field(node, node.operand, operand, key)
        if type(key) is int and key >= 0 and not isinstance(node.operand, Const):
            t = self.temporary()
            return f"({t}[{key}] if type({t} := {operand}) is list else index({t}, {key}))"
        return f"index({operand}, {self.source(node.key)})"

    def _operator(self, node: Op) -> str:
        op, args = node.op, node.args
        if op in ("&&", "||"):
            word = " and " if op == "&&" else " or "
            return f"({word.join(map(self.condition, args))})"
        if op == "?:":
            test = self.condition(args[0])
            return f"({self.source(args[1])} if {test} else {self.source(args[2])})"
        if op == "!":
            if is_bool(args[0]):
                return f"(not {self.source(args[0])})"
            return f"not_({self.source(args[0])})"
        if op == "neg":
            return f"neg({self.source(args[0])})"
        if op in ("==", "!="):
            return self._equality(op, args[0], args[1])
        if op in _ORDER:
            return self._order(op, args[0], args[1])
        if op == "in":
            return self._in(args[0], args[1])
        left, right = map(self.source, args)
        if op == "+":
            return f"add({self.b()}, {left}, {right})"
        return f"{_ARITHMETIC[op]}({left}, {right})"

    def _equality(self, op: str, left: Node, right: Node) -> str:
        if isinstance(left, Const) and not isinstance(right, Const):
            left, right = right, left
        source = self.source(left)
        if not isinstance(right, Const) or isinstance(left, Const):
            name = "eq" if op == "==" else "ne"
            return f"{name}({self.b()}, {source}, {self.source(right)})"
        value = right.value
        if value is None or type(value) is bool:
            return f"({source} {'is' if op == '==' else 'is not'} {value!r})"
        constant = self.constant(value)
        if type(value) in (int, float, UInt) and (value == 0 or value == 1):
            # Python takes True for 1.
            t = self.temporary()
            same = f"({t} := {source}) == {constant} and {t} is not {bool(value)}"
            return f"({same})" if op == "==" else f"(not ({same}))"
        # No other constant is equal to a value that CEL holds for different.
        return f"({source} {op} {constant})"

    def _order(self, op: str, left: Node, right: Node) -> str:
        if isinstance(left, Const) and not isinstance(right, Const):
            left, right, op = right, left, _MIRROR[op]
        source, name = self.source(left), _ORDER[op]
        kind = type(right.value) if isinstance(right, Const) else None
        if kind not in (int, float, str):
            return f"{name}({source}, {self.source(right)})"
        t, constant = self.temporary(), self.source(right)
        test = f"type({t} := {source}) is {'str' if kind is str else 'int'}"
        if kind is not str:
            test += f" or type({t}) is float"
        return f"({t} {op} {constant} if {test} else {name}({t}, {constant}))"

    def _in(self, left: Node, right: Node) -> str:
        source = self.source(left)
        if isinstance(right, ListLit) and not any(right.optional):
            values = [each.value if isinstance(each, Const) else None for each in right.items]
            if values and all(type(value) is str for value in values):
                return f"({source} in {tuple(values)!r})"
        if isinstance(left, Const) and type(left.value) is str:
            return f"in_text({self.b()}, {source}, {self.source(right)})"
        return f"in_({self.b()}, {source}, {self.source(right)})"

    def _call(self, node: Call) -> str:
        function = FUNCTIONS.get(node.name)
        count = len(node.children())
        if function is None or not function.takes(member=node.target is not None, count=count):
            raise NoFastForm
        parts = [self.source(each) for each in node.children()]
        last = node.children()[-1] if count else None
        if count == 2 and isinstance(last, Const) and type(last.value) is str:
            inlined = self._text_call(node.name, parts[0], last.value)
            if inlined is not None:
                return inlined
        if node.name in ("or", "orValue"):
            t = self.temporary()
            if node.name == "or":
                return f"({t} if ({t} := optional({parts[0]})).present else optional({parts[1]}))"
            return f"({t}.value if ({t} := optional({parts[0]})).present else {parts[1]})"
        if function.budgeted:
            parts.insert(0, self.b())
        return f"{self.named(function.run)}({', '.join(parts)})"

    def _text_call(self, name: str, source: str, text: str) -> str | None:
        """A call with a constant text, for a subject that is nearly always a str."""
        t = self.temporary()
        if name in ("startsWith", "endsWith"):
            fast = f"{t}.{name.lower()}({text!r})"
        elif name == "contains":
            fast = f"{text!r} in {t}"
        elif name == "matches":
            try:
                pattern = self.named(strings.regex(text))
            except EvaluationError:
                raise NoFastForm from None
            short = f"type({t} := {source}) is str and len({t}) < {_LONG_TEXT}"
            slow = f"matches({self.b()}, {t}, {text!r})"
            return f"(search({pattern}, {t}) if {short} else {slow})"
        else:
            return None
        slow = f"{_TEXT_TESTS[name]}({t}, {text!r})"
        return f"({fast} if type({t} := {source}) is str else {slow})"

    def _list(self, node: ListLit) -> str:
        parts = [
            f"*present({self.source(each)})" if optional else self.source(each)
            for each, optional in zip(node.items, node.optional, strict=True)
        ]
        made = f"[{', '.join(parts)}]"
        return f"made({self.b()}, {made})" if self.loops else made

    def _map(self, node: MapLit) -> str:
        keys = [each.value if isinstance(each, Const) else None for each in node.keys]
        plain = all(type(key) is str for key in keys) and len(set(keys)) == len(keys)
        if plain and not any(node.optional):
            inner = ", ".join(
                f"{key!r}: {self.source(each)}" for key, each in zip(keys, node.values, strict=True)
            )
            return f"made({self.b()}, {{{inner}}})" if self.loops else f"{{{inner}}}"
        entries = []
        for key, value, optional in zip(node.keys, node.values, node.optional, strict=True):
            name, source = self.source(key), self.source(value)
            t = self.temporary()
            each = f"*(({name}, {t}) for {t} in present({source}))"
            entries.append(each if optional else f"({name}, {source})")
        return f"make_map({self.b()}, [{', '.join(entries)}])"

    def _loop(self, node: Loop) -> str:
        over = self.source(node.over)
        self.loops += 1
        test = f" if {self.condition(node.where)}" if node.where is not None else ""
        quantifier = node.kind in ("all", "exists", "existsOne")
        body = self.condition(node.body) if quantifier else self.source(node.body)
        self.loops -= 1
        visit = "pairs" if len(node.names) == 2 else "items" if quantifier else "collected"
        names = ", ".join(f"v{name.slot}" for name in node.names)
        # Bound before the loop: Python allows no `:=` within a comprehension's iterable.
        t = self.temporary()
        before, each = f"{t} := {visit}({self.b()}, {over})", f"for {names} in {t}"
        match node.kind:
            case "all" | "exists":
                made = f"{'all' if node.kind == 'all' else 'any'}({body} {each})"
            case "existsOne":
                made = f"sum([1 {each} if {body}]) == 1"
            case "transformMap":
                made = f"make_map(B, [(v{node.names[0].slot}, {body}) {each}{test}])"
            case "transformMapEntry":
                made = f"merge_maps(B, [{body} {each}{test}])"
            case _:
                made = f"[{body} {each}{test}]"
        return f"({before}, {made})[1]"

    def _bind(self, node: Bind) -> str:
        value, name = self.source(node.value), f"v{node.name.slot}"
        self.loops += 1  # what is bound can be shared, as what a loop visits
        body = self.source(node.body)
        self.loops -= 1
        if node.kind == "bind":
            return f"({name} := {value}, {body})[1]"
        made = f"optional({body})" if node.kind == "optFlatMap" else f"Optional({body})"
        t = self.temporary()
        return f"(({name} := {t}.value, {made})[1] if ({t} := optional({value})).present else NONE)"
