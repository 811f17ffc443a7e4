"""Takes out of modules what nobody can call: functions, methods and classes that are named nowhere.

A name counts as used where it stands as a name, an attribute, an argument, in an import, as a word in a string, or
anywhere in the interpreter's own file, which calls methods by name from C. A word in a string that begins or ends
with an underscore stands for all names that end or begin so: some are put together when they are called, as argparse
has `"_handle_conflict_%s"`. Never taken out: what lies in a function, what is decorated by something that may keep it,
and names with two underscores around. What is taken out, 0.28 MB, would be read into memory with its module, and stay
there.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from typing import Any, Final

# Of a name that is put together.
SHORTEST_PART: Final = 4
WORD: Final = re.compile(r"[A-Za-z_]\w*")
# These only wrap what they are given, and remember it nowhere.
HARMLESS: Final = frozenset(
    [
        *("abc.abstractmethod", "abstractmethod", "classmethod", "property", "staticmethod", "final", "typing.final"),
        *(
            "functools.cached_property",
            "functools.lru_cache",
            "functools.wraps",
            "_ntp.wraps",
            "contextlib.contextmanager",
        ),
        *("contextmanager", "memoize", "memoize_when_activated", "types.coroutine", "wrap_exceptions", "overload"),
    ]
)
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def words_of_program(program: bytes) -> set[str]:
    """Every word in a program's file."""
    return {word.decode() for word in re.findall(rb"[A-Za-z_][A-Za-z0-9_]+", program)}


def take_out_unused(trees: Iterable[ast.Module], kept: Iterable[ast.Module], words: set[str]) -> None:
    """Change `trees`; what is named in them, in `kept` or among `words` stays."""
    trees, kept = list(trees), list(kept)
    always = words.union(*(_named(tree) for tree in kept))
    parts = frozenset().union(*(_parts(tree) for tree in [*trees, *kept]))
    while True:
        remover = _Remover(always.union(*(_named(tree) for tree in trees)), parts)
        for tree in trees:
            remover.take_out_of(tree)
        # What is gone names nothing any more.
        if not remover.removed:
            return


def _named(tree: ast.Module) -> set[str]:
    names: set[str] = set()
    # What only stands in a list of exports is not used by that.
    exports = {id(node) for statement in tree.body if _exports(statement) for node in ast.walk(statement)}
    for node in ast.walk(tree):
        match node:
            case _ if id(node) in exports:
                pass
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name) | ast.keyword(arg=str(name)):
                names.add(name)
            case ast.alias(name=name, asname=other):
                names.update(WORD.findall(f"{name} {other}"))
            case ast.Constant(value=str(text)):
                names.update(WORD.findall(text))
            case ast.MatchClass(kwd_attrs=found):
                names.update(found)
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef() if not _is_plain(node):
                # Its decorator knows its name, and may look for it elsewhere.
                names.add(node.name)
    return names


def _parts(tree: ast.Module) -> set[str]:
    """What names may begin or end with, of those that are put together."""
    strings = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str))
    words = {word for text in strings for word in WORD.findall(text) if len(word) >= SHORTEST_PART}
    return {word for word in words if word.startswith("_") or word.endswith("_")}


def _is_plain(node: Definition) -> bool:
    """Whether its decorators, if any, do nothing but wrap it."""
    decorators = (entry.func if isinstance(entry, ast.Call) else entry for entry in node.decorator_list)
    return all(ast.unparse(decorator) in HARMLESS for decorator in decorators)


def _exports(statement: ast.stmt) -> bool:
    """Whether it sets `__all__`."""
    targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
    return any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets)


class _Remover(ast.NodeTransformer):
    def __init__(self, named: set[str], parts: frozenset[str]) -> None:
        self._named = named
        self._beginnings = tuple(word for word in parts if word.endswith("_"))
        self._ends = tuple(word for word in parts if word.startswith("_"))
        self.removed: set[str] = set()

    def take_out_of(self, module: ast.Module) -> None:
        before = {getattr(node, "name", None) for node in ast.walk(module)}
        self.visit(module)
        gone = before - {getattr(node, "name", None) for node in ast.walk(module)}
        for statement in filter(_exports, module.body):
            for node in ast.walk(statement):
                if isinstance(node, ast.List | ast.Tuple):
                    node.elts = [entry for entry in node.elts if getattr(entry, "value", None) not in gone]

    def _visit_definition(self, node: Any) -> Any:
        if self._is_unused(node):
            self.removed.add(node.name)
            return None
        # Not what lies in a function.
        return self.generic_visit(node) if isinstance(node, ast.ClassDef) else node

    visit_FunctionDef = visit_AsyncFunctionDef = visit_ClassDef = _visit_definition

    def _is_unused(self, node: Definition) -> bool:
        if node.name in self._named or (node.name.startswith("__") and node.name.endswith("__")):
            return False
        if node.name.startswith(self._beginnings) or node.name.endswith(self._ends):
            return False
        return _is_plain(node)

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        # A block must not become empty.
        if getattr(node, "body", None) == [] and not isinstance(node, ast.Module):
            vars(node)["body"] = [ast.Pass()]
        return node
