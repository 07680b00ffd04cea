"""Which fields of which variables an expression reads: for indexes, schemas and `explain`."""

from __future__ import annotations

from ofevents.cel.tree import Bind, Const, Index, Local, Loop, Node, Select, Var


def read_paths(root: Node) -> frozenset[str]:
    """Paths such as `event.data.items.[].price`; `[]` is any element or computed key."""
    walker = _Walker()
    walker.use(root)
    return frozenset(walker.found)


class _Walker:
    def __init__(self) -> None:
        self.found: set[str] = set()
        self._locals: dict[int, str | None] = {}

    def use(self, node: Node) -> None:
        """Record what the node reads."""
        path = self.path(node)
        if path is not None:
            self.found.add(path)
        elif isinstance(node, Loop):
            self._loop(node)
        elif isinstance(node, Bind):
            self._locals[node.name.slot] = self._bound(node)
            self.use(node.body)
        elif not isinstance(node, Select | Index):
            for child in node.children():
                self.use(child)

    def path(self, node: Node) -> str | None:
        """The path that the node stands for; what is read on the way to it is recorded."""
        match node:
            case Var():
                return node.name
            case Local():
                return self._locals.get(node.slot)
            case Select():
                return self._step(node.operand, node.name)
            case Index():
                if isinstance(node.key, Const) and isinstance(node.key.value, str):
                    return self._step(node.operand, node.key.value)
                self.use(node.key)
                return self._step(node.operand, "[]")
        return None

    def _step(self, operand: Node, name: str) -> str | None:
        before = self.path(operand)
        if before is None:
            if not isinstance(operand, Select | Index | Local):
                self.use(operand)
            return None
        return f"{before}.{name}"

    def _bound(self, node: Bind) -> str | None:
        found = self.path(node.value)
        if found is None:
            self.use(node.value)
        return found

    def _loop(self, node: Loop) -> None:
        self.use(node.over)
        over = self.path(node.over)
        element = f"{over}.[]" if over is not None else None
        keyed = node.over.type.name in ("map", "event")
        if len(node.names) == 1:
            # The variable of a loop over a map is a key, which is no path into the event.
            self._locals[node.names[0].slot] = None if keyed else element
        else:
            self._locals[node.names[0].slot] = None
            self._locals[node.names[1].slot] = element
        for child in (node.where, node.body):
            if child is not None and not (isinstance(child, Local) and child in node.names):
                self.use(child)
