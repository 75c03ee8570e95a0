"""Where a module can be changed in a small way, and the changed text."""

from __future__ import annotations

import ast
import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_SWAPPED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
_ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
}  # fmt: skip
_SYMMETRIC = frozenset({"max", "min"})
_LOGGERS = frozenset({"debug", "info", "warning", "exception"})


@dataclass(frozen=True, slots=True)
class Mutant:
    """A module with one change.

    Attributes:
        line: of the change.
        what: the change in words.
        text: the whole module's new text.
    """

    line: int
    what: str
    text: str


def places(text: str) -> int:
    """How many changes a module's text allows."""
    return sum(1 for _ in _changes(ast.parse(text)))


def mutant(text: str, number: int) -> Mutant:
    """The change with this number, from 0 to `places(text)`."""
    tree = ast.parse(text)
    for found, (node, what, change) in enumerate(_changes(tree)):
        if found == number:
            change()
            return Mutant(getattr(node, "lineno", 1), what, ast.unparse(ast.fix_missing_locations(tree)))
    raise IndexError(number)


_Change = tuple[ast.AST, str, "Callable[[], None]"]


def _changes(tree: ast.Module) -> Iterator[_Change]:
    skipped = {id(inner) for node in ast.walk(tree) for part in _untested(node) for inner in ast.walk(part)}
    for node in ast.walk(tree):
        if id(node) not in skipped:
            yield from _of_expression(node, tree)
            yield from _of_body(node, skipped)


def _untested(node: ast.AST) -> Iterator[ast.AST]:
    """What nobody can notice a change of.

    Annotations, docstrings, what only a type checker reads, messages logged, and the body of an abstract method.
    """
    if isinstance(node, ast.arg | ast.AnnAssign) and node.annotation:
        yield node.annotation
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.returns:
        yield node.returns
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        yield node
    if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Name) and node.exc.id == "NotImplementedError":
        yield node
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        yield node
    if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in {"__all__", "__slots__"}:
        yield node
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _LOGGERS:
        yield node


def _of_expression(node: ast.AST, tree: ast.Module) -> Iterator[_Change]:
    match node:
        case ast.Compare(ops=[op, *_]) if type(op) in _SWAPPED:
            other = _SWAPPED[type(op)]
            yield node, f"{type(op).__name__} -> {other.__name__}", lambda: _put(node, "ops", [other(), *node.ops[1:]])
        case ast.BoolOp(op=op):
            swapped = ast.Or() if isinstance(op, ast.And) else ast.And()
            yield node, "and <-> or", lambda: _put(node, "op", swapped)
        case ast.BinOp(op=op) if type(op) in _ARITHMETIC:
            arithmetic = _ARITHMETIC[type(op)]
            yield node, f"{type(op).__name__} -> {arithmetic.__name__}", lambda: _put(node, "op", arithmetic())
        case ast.UnaryOp(op=ast.Not()):
            yield node, "not dropped", lambda: _replace(tree, node, node.operand)
        case ast.If() | ast.While() | ast.IfExp():
            turned = ast.UnaryOp(ast.Not(), node.test)
            yield node, "condition turned round", lambda: _put(node, "test", turned)
        case ast.Constant(value=bool() as value):
            yield node, f"{value} -> {not value}", lambda: _put(node, "value", not value)
        case ast.Constant(value=int() | float() as number):
            yield node, f"{number} -> {number + 1}", lambda: _put(node, "value", number + 1)
        case ast.Await():
            yield node, "await dropped", lambda: _replace(tree, node, node.value)
        case ast.Call(args=[first, second, *rest]) if not isinstance(first, ast.Starred) and not _symmetric(node):
            yield node, "arguments swapped", lambda: _put(node, "args", [second, first, *rest])


def _of_body(node: ast.AST, skipped: set[int]) -> Iterator[_Change]:
    if isinstance(node, ast.Module | ast.ClassDef):
        return
    for name in ("body", "orelse", "finalbody"):
        body = getattr(node, name, None)
        if not isinstance(body, list):
            continue
        for index, statement in enumerate(body):
            if id(statement) in skipped or not isinstance(
                statement, ast.Expr | ast.Assign | ast.AugAssign | ast.Raise | ast.Return | ast.Continue | ast.Break
            ):
                continue
            yield statement, "statement removed", lambda body=body, at=index: _put_at(body, at)  # type: ignore[misc]


def _symmetric(call: ast.Call) -> bool:
    return isinstance(call.func, ast.Name) and call.func.id in _SYMMETRIC


def _put(node: ast.AST, name: str, value: object) -> None:
    setattr(node, name, value)


def _put_at(body: list[ast.stmt], index: int) -> None:
    body[index] = ast.copy_location(ast.Pass(), body[index])


def _replace(tree: ast.Module, old: ast.AST, new: ast.AST) -> None:
    for parent in ast.walk(tree):
        for name, value in ast.iter_fields(parent):
            if value is old:
                setattr(parent, name, copy.copy(new))
            elif isinstance(value, list):
                value[:] = [copy.copy(new) if one is old else one for one in value]
