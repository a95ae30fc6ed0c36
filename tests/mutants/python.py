"""Every small change of a Python module that may change what it does: one mutant each.

The operators are mutmut's, by which it changes bodies of functions; here module constants, and what is decorated, are
changed too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import libcst as cst
import libcst.matchers as m
from libcst.metadata import MetadataWrapper, PositionProvider
from mutmut.mutation import mutators

#: What stands in these does nothing when the program runs.
_LEFT_ALONE: Final = (cst.Annotation, cst.Decorator, cst.Import, cst.ImportFrom)
_NAMED: Final = m.NamedExpr()
_TRUE: Final = cst.Name("True")
_FALSE: Final = cst.Name("False")


@dataclass(frozen=True)
class Mutant:
    """One change: what stands in the place of a node of the module, which begins on `line`."""

    line: int
    module: cst.Module
    node: cst.CSTNode
    replacement: cst.CSTNode

    def text(self) -> str:
        """The whole module with the change."""
        changed = self.module.deep_replace(self.node, self.replacement)
        assert isinstance(changed, cst.Module)
        return changed.code

    def __str__(self) -> str:
        return f"{self.line}: {self._shown(self.node)} -> {self._shown(self.replacement)}"

    def _shown(self, node: cst.CSTNode) -> str:
        text = " ".join(self.module.code_for_node(node).split())
        return text if len(text) <= 70 else f"{text[:67]}..."


def mutants(text: str) -> list[Mutant]:
    """All mutants of a module, in order. Annotations, docstrings, decorators, imports and logging are left alone."""
    found = _Found()
    MetadataWrapper(cst.parse_module(text)).visit(found)
    return found.mutants


class _Found(cst.CSTVisitor):
    METADATA_DEPENDENCIES = (PositionProvider,)

    def __init__(self) -> None:
        super().__init__()
        self.mutants: list[Mutant] = []
        self._module = cst.Module([])

    def visit_Module(self, node: cst.Module) -> None:
        self._module = node

    def on_visit(self, node: cst.CSTNode) -> bool:
        if isinstance(node, _LEFT_ALONE) or (isinstance(node, cst.Expr) and _is_silent(node)):
            return False
        for of, by in _changes(node):
            self.mutants.append(Mutant(self.get_metadata(PositionProvider, of).start.line, self._module, of, by))
        return bool(super().on_visit(node))


def _is_silent(node: cst.Expr) -> bool:
    """Whether a statement is a docstring, writes to the log, or is an ellipsis."""
    is_log = m.Call(func=m.Attribute(value=m.Name("logger")))
    return m.matches(node.value, m.SimpleString() | m.ConcatenatedString() | m.Ellipsis() | is_log)


def _changes(node: cst.CSTNode) -> Iterator[tuple[cst.CSTNode, cst.CSTNode]]:
    """What becomes what for one node, those below it aside."""
    for replacement in _replacements(node):
        yield node, replacement
    if isinstance(node, cst.If | cst.IfExp | cst.While | cst.CompIf):
        # A condition that names a value can't be held for true.
        if not isinstance(node, cst.While) and not m.findall(node.test, _NAMED):
            yield node.test, _TRUE
        if not isinstance(node, cst.CompIf):
            yield node.test, _FALSE
    elif isinstance(node, cst.BooleanOperation):
        yield node, node.left
        if not m.findall(node.left, _NAMED):
            yield node, node.right
    elif isinstance(node, cst.Call) and len(node.args) > 1:
        for argument in node.args:
            if argument.keyword:
                left = [other for other in node.args if other is not argument]
                yield node, node.with_changes(args=left)
    elif isinstance(node, cst.Expr) and not m.matches(node.value, m.Yield()):
        yield node, cst.Pass()


def _replacements(node: cst.CSTNode) -> Iterable[cst.CSTNode]:
    """What mutmut makes of a node. Of the changes of a text one is enough; None in the place of whatever is assigned or
    passed, as it also does, tells little: whatever uses the value fails."""
    if isinstance(node, cst.SimpleString):
        yield from [text for text in mutators.operator_string(node) if "XX" in text.value]
    elif isinstance(node, cst.BaseNumber):
        yield from mutators.operator_number(node)
    elif isinstance(node, cst.Name):
        yield from mutators.operator_name(node)
    elif isinstance(node, cst.UnaryOperation):
        yield from mutators.operator_remove_unary_ops(node)
    elif isinstance(node, cst.AugAssign):
        yield from mutators.operator_augmented_assignment(node)
    elif isinstance(node, cst.Call):
        yield from mutators.operator_symmetric_string_methods_swap(node)
        yield from mutators.operator_unsymmetrical_string_methods_swap(node)
    yield from mutators.operator_keywords(node)
    yield from mutators.operator_swap_op(node)
