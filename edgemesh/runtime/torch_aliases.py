"""Which tensors of an exported torch graph may share memory, and what a write in place reaches by that."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any, cast

import torch
from torch.fx import Node

# Their result is their first argument. The copy that ``lift_fresh_copy`` makes only matters to operators
# that write, and dropout only does something in training.
IDENTITIES = {
    "aten.detach.default", "aten.detach_.default", "aten.alias.default", "aten.lift_fresh.default",
    "aten.lift_fresh_copy.default",
}  # fmt: skip
DROPOUTS = {
    "aten.dropout.default", "aten.dropout_.default", "aten.feature_dropout.default",
    "aten.feature_dropout_.default", "aten.alpha_dropout.default", "aten.feature_alpha_dropout.default",
}  # fmt: skip
_MAY_ALIAS = {"aten.type_as.default"}
"""May return its argument although its schema does not say so."""
_HIDDEN_VIEWS = {"aten.einsum.default", "aten.meshgrid.default", "aten.meshgrid.indexing"}
"""May return views of their arguments of which neither their schema nor the exporter knows."""


class Aliases:
    """Which nodes of an exported graph may share memory, with or without ``hidden`` views."""

    def __init__(self, nodes: Iterable[Node], *, hidden: bool = False) -> None:
        self._position: dict[Node, int] = {}
        self._root: dict[Node, Node] = {}
        self._members: dict[Node, list[Node]] = {}
        for position, node in enumerate(nodes):
            self._position[node] = position
            self._root[node] = node
            self._members[node] = [node]
            for source in _aliased(node, hidden=hidden):
                self._join(self._root[source], node)

    def others_read_later(self, node: Node, content: dict[Node, Any]) -> bool:
        """Whether something else in the memory that ``node`` writes to is read after it, or outlives it."""
        target = cast(Node, node.args[0])
        return any(
            alias.op == "placeholder"
            or (content[alias] != content[target] and self.is_read_after(node, alias))
            for alias in self.earlier(node)
        )

    def same(self, node: Node, content: dict[Node, Any]) -> list[Node]:
        """Nodes that stand for the very tensor that ``node`` writes to."""
        written = content[cast(Node, node.args[0])]
        return [alias for alias in self.earlier(node) if content[alias] == written]

    def is_read_after(self, node: Node, alias: Node) -> bool:
        """Whether something after ``node`` takes ``alias``."""
        return any(self._position[user] > self._position[node] for user in alias.users)

    def earlier(self, node: Node) -> list[Node]:
        """What may share the memory of ``node`` and is there before it."""
        members = self._members[self._root[node]]
        return [alias for alias in members if self._position[alias] < self._position[node]]

    def _join(self, root: Node, node: Node) -> None:
        old = self._root[node]
        if old is root:
            return
        for member in self._members.pop(old):
            self._root[member] = root
            self._members[root].append(member)


def hidden_write(nodes: Collection[Node], stored: Collection[Node]) -> tuple[Node, Node] | None:
    """A write that another tensor shows through a hidden view only, and that view; None without one.

    The other is read after the write, or is one of the ``stored`` tensors, which later runs read.
    """
    known, shared = Aliases(nodes), Aliases(nodes, hidden=True)
    for node in nodes:
        if isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable:
            unknown = set(shared.earlier(node)).difference(known.earlier(node))
            if any(alias in stored or shared.is_read_after(node, alias) for alias in unknown):
                return node, next(alias for alias in shared.earlier(node) if _is_hidden_view(alias))
    return None


def _is_hidden_view(node: Node) -> bool:
    # Of several operands einsum makes products, which are new.
    is_product = node.target == torch.ops.aten.einsum.default and len(cast(Any, node.args[1])) > 1
    return str(node.target) in _HIDDEN_VIEWS and not is_product


def _aliased(node: Node, *, hidden: bool) -> Iterator[Node]:
    """Arguments whose memory the result of ``node`` may share."""
    if node.op != "call_function":
        return
    if isinstance(node.target, torch._ops.OpOverload):
        target, schema = str(node.target), node.target._schema
        shares = target in IDENTITIES or target in DROPOUTS or target in _MAY_ALIAS
        shares = shares or (hidden and _is_hidden_view(node))
        if not shares and all(result.alias_info is None for result in schema.returns):
            return
        sources = [
            item
            for item, argument in zip(node.args, schema.arguments)
            if shares or argument.alias_info is not None
        ]
    else:
        sources = list(node.args)
    for item in sources:
        if isinstance(item, Node):
            yield item
        elif isinstance(item, (list, tuple)):
            yield from (part for part in item if isinstance(part, Node))
