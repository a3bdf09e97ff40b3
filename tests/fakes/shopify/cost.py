"""What a query costs before it runs and after it, and the sizes of lists that are refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLInterfaceType,
    GraphQLObjectType,
    GraphQLSchema,
    InlineFragmentNode,
    OperationDefinitionNode,
    OperationType,
    SelectionSetNode,
    get_argument_values,
    get_named_type,
)

LONGEST_LIST = 250
_MUTATION_COST = 10

_Composite = GraphQLObjectType | GraphQLInterfaceType


class Cost:
    """The cost of one operation: a list is two and its size times what it holds, an object one.

    The platform no longer says exactly how it counts; this is the older rule, which is dearer.
    """

    def __init__(
        self, schema: GraphQLSchema, document: DocumentNode, variables: Mapping[str, Any]
    ) -> None:
        self._schema = schema
        self._variables = dict(variables)
        self._fragments = {
            one.name.value: one
            for one in document.definitions
            if isinstance(one, FragmentDefinitionNode)
        }

    def of(self, operation: OperationDefinitionNode) -> int:
        """Its cost; raises `GraphQLError` for a list without a size, or with one beyond 250."""
        mutation = operation.operation is OperationType.MUTATION
        root = self._schema.mutation_type if mutation else self._schema.query_type
        cost = self._selection(operation.selection_set, root) if root else 0
        return cost + (_MUTATION_COST * len(operation.selection_set.selections) if mutation else 0)

    def spent(self, operation: OperationDefinitionNode, data: Mapping[str, Any] | None) -> int:
        """What it has cost, by the same rule, with what the lists have in place of their sizes."""
        mutation = operation.operation is OperationType.MUTATION
        root = self._schema.mutation_type if mutation else self._schema.query_type
        cost = self._spent(operation.selection_set, root, data or {}) if root else 0
        return cost + (_MUTATION_COST * len(operation.selection_set.selections) if mutation else 0)

    def _spent(
        self, selected: SelectionSetNode | None, parent: _Composite, value: Mapping[str, Any]
    ) -> int:
        total = 0
        for node in selected.selections if selected else ():
            if isinstance(node, FieldNode):
                name = node.alias.value if node.alias else node.name.value
                total += self._spent_on(node, parent, value.get(name))
            elif isinstance(node, InlineFragmentNode):
                total += self._spent(node.selection_set, self._narrowed(node, parent), value)
            elif isinstance(node, FragmentSpreadNode):
                fragment = self._fragments[node.name.value]
                narrowed = self._narrowed(fragment, parent)
                total += self._spent(fragment.selection_set, narrowed, value)
        return total

    def _spent_on(self, node: FieldNode, parent: _Composite, value: Any) -> int:
        definition = parent.fields.get(node.name.value)
        kind = get_named_type(definition.type) if definition else None
        if value is None or node.selection_set is None or not isinstance(kind, _Composite):
            return 0
        own = 2 if kind.name.endswith("Connection") else 1
        if kind.name.endswith("Edge") or kind.name == "PageInfo":
            own = 0
        values = value if isinstance(value, list) else [value]
        return sum(own + self._spent(node.selection_set, kind, one) for one in values if one)

    def _selection(self, selected: SelectionSetNode | None, parent: _Composite) -> int:
        total = 0
        for node in selected.selections if selected else ():
            if isinstance(node, FieldNode):
                total += self._field(node, parent)
            elif isinstance(node, InlineFragmentNode):
                total += self._selection(node.selection_set, self._narrowed(node, parent))
            elif isinstance(node, FragmentSpreadNode):
                fragment = self._fragments[node.name.value]
                total += self._selection(fragment.selection_set, self._narrowed(fragment, parent))
        return total

    def _narrowed(
        self, node: InlineFragmentNode | FragmentDefinitionNode, parent: _Composite
    ) -> _Composite:
        name = node.type_condition.name.value if node.type_condition else parent.name
        narrowed = self._schema.type_map[name]
        return narrowed if isinstance(narrowed, _Composite) else parent

    def _field(self, node: FieldNode, parent: _Composite) -> int:
        definition = parent.fields.get(node.name.value)
        if definition is None or node.selection_set is None:
            return 0
        kind = get_named_type(definition.type)
        if not isinstance(kind, _Composite):
            return 1
        inside = self._selection(node.selection_set, kind)
        if kind.name.endswith("Connection"):
            given = get_argument_values(definition, node, self._variables)
            return 2 + self._size(node.name.value, given) * inside
        wrapper = kind.name.endswith("Edge") or kind.name == "PageInfo"
        return inside if wrapper else 1 + inside

    def _size(self, name: str, given: Mapping[str, Any]) -> int:
        sizes = [given[one] for one in ("first", "last") if given.get(one) is not None]
        if len(sizes) != 1:
            raise GraphQLError(
                f"you must provide one of first or last for {name}",
                extensions={"code": "BAD_REQUEST"},
            )
        if not 0 < sizes[0] <= LONGEST_LIST:
            raise GraphQLError(
                f"{name}: first must be between 1 and {LONGEST_LIST}, not {sizes[0]}",
                extensions={"code": "BAD_REQUEST"},
            )
        return int(sizes[0])
