"""Finds the Python modules that the agent can import, and writes them as .pyc into two zips.

    modules.py INTERPRETER LIBRARY.zip AGENT.zip CHECKOUT PACKAGES LIBRARY...

Modules are looked for in these folders, in this order. Followed are all import statements anywhere in a module that is
needed, from the agent's on; but for those of modules in `LEFT_OUT`, whose import is guarded where it stands, or never
reached on a camera. Run by the Debian Python of the camera's version, since .pyc files are its byte code, with
`-X no_debug_ranges`, and a fixed PYTHONHASHSEED, so that the same sources give the same bytes.

Docstrings and assertions go (as by -OO), and so does what else would be kept in memory without being read: the
annotations of functions and of modules, a function's second name with that of its class in front, and its table of
lines, half as long as its code. That the agent's own functions keep, for tracebacks; in others', every line is that of
their `def`.
"""

from __future__ import annotations

import _imp
import ast
import importlib.util
import marshal
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from types import CodeType
from typing import Any, Final

from unused import take_out_unused, words_of_program
from zips import FILE_MODE, write_zip

# Loaded by the interpreter itself: by name from C, or by the name of an encoding.
BY_NAME: Final = (
    "encodings.aliases",
    "encodings.ascii",
    "encodings.idna",
    "encodings.latin_1",
    "encodings.utf_8",
    "encodings.utf_8_sig",
    "traceback",
    "warnings",
)
# In the interpreter itself.
FROZEN: Final = frozenset(_imp._frozen_module_names())  # type: ignore[attr-defined]  # typeshed has it from 3.12 on
# By who imports them. Whatever lies below one of these is left out as well.
LEFT_OUT: Final = frozenset(
    [
        # other systems, and what stands in where a C half is missing
        *("_aix_support", "_bootsubprocess", "_osx_support", "_py_abc", "_threading_local", "encodings.mbcs"),
        *("asyncio.proactor_events", "asyncio.windows_events", "asyncio.windows_utils", "ctypes", "plistlib"),
        *("psutil._psaix", "psutil._psbsd", "psutil._psosx", "psutil._pssunos", "psutil._pswindows", "yaml.cyaml"),
        # for people at a terminal, and for developers
        *("asyncio.__main__", "doctest", "getopt", "getpass", "pdb", "pydoc", "test", "tracemalloc", "unittest"),
        # other ways to run something at the same time
        *("concurrent.futures.process", "multiprocessing"),
        # shutil's archives
        *("bz2", "lzma", "tarfile", "zipfile"),
        # random's test of itself; logging's way to other machines; traceback's marks below lines of source
        *("statistics", "pickle", "ast"),
        # importlib, for packages that are installed
        *("importlib.abc", "importlib.metadata", "importlib.readers", "importlib.resources", "sysconfig"),
    ]
)
# What stands behind these is never run.
NOT_RUN: Final = ("TYPE_CHECKING", "typing.TYPE_CHECKING", "__name__ == '__main__'")
# Of a location table: the first byte of an entry, the kind that has a line alone, and how much one entry can be about.
ENTRY: Final = 0x80
NO_COLUMNS: Final = 13
MOST_UNITS: Final = 8
CODE_UNIT_BYTES: Final = 2
# PEP 552: with a hash, which is not to be checked.
HASHED: Final = 1


class Modules:
    """Modules by their dotted names, as files in folders."""

    def __init__(self, folders: Iterable[Path]) -> None:
        self._folders = list(folders)

    def file(self, name: str) -> Path | None:
        """The file of this module; None where it is in C, or nowhere."""
        relative = name.replace(".", "/")
        for folder in self._folders:
            for path in (folder / relative / "__init__.py", folder / f"{relative}.py"):
                if path.is_file():
                    return path
        return None

    def of_package(self, name: str) -> Iterator[str]:
        """A package with everything that lies in it."""
        file = self.file(name)
        assert file is not None
        for path in sorted(file.parent.rglob("*.py")):
            yield ".".join([name, *path.relative_to(file.parent).with_suffix("").parts]).removesuffix(".__init__")

    def needed(self, names: Iterable[str]) -> dict[str, Path]:
        """These and all that they import, with their files, in order."""
        found: dict[str, Path] = {}
        waiting = list(names)
        while waiting:
            name = waiting.pop()
            file = self.file(name) if name not in found and not _is_left_out(name) else None
            if file is not None:
                found[name] = file
                parent = name.rpartition(".")[0]
                waiting += [parent] if parent else []
                waiting += _imports(file, name if file.stem == "__init__" else parent)
        return dict(sorted(found.items()))


def _is_left_out(name: str) -> bool:
    parts = name.split(".")
    above = {".".join(parts[:count]) for count in range(1, len(parts) + 1)}
    return name in FROZEN or not LEFT_OUT.isdisjoint(above)


def _imports(file: Path, package: str) -> Iterator[str]:
    """The names of what `file` imports: modules, and names that may be modules."""
    for node in _run(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".")
                base = ".".join([*parts[: len(parts) - node.level + 1], *([base] if base else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _run(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node but those that are never run."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, ast.If) and ast.unparse(node.test) in NOT_RUN:
            waiting += node.orelse
        else:
            waiting += ast.iter_child_nodes(node)


class _WithoutAnnotations(ast.NodeTransformer):
    """Of functions and modules. Those of classes stay: they are what a dataclass is made from."""

    def visit_Module(self, node: ast.Module) -> ast.Module:
        node.body = [_plain(statement) for statement in node.body]
        self.generic_visit(node)
        return node

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def _visit_function(self, node: Any) -> Any:
        node.returns = None
        self.generic_visit(node)
        return node

    visit_FunctionDef = visit_AsyncFunctionDef = _visit_function


class _WithoutDocstrings(ast.NodeTransformer):
    """compile() drops them as well, but until then they would seem to use what they tell of."""

    def _visit(self, node: Any) -> Any:
        if ast.get_docstring(node, clean=False) is not None:
            docstring = node.body.pop(0)
            if not node.body and not isinstance(node, ast.Module):
                node.body.append(ast.copy_location(ast.Pass(), docstring))
        return self.generic_visit(node)

    visit_Module = visit_ClassDef = visit_FunctionDef = visit_AsyncFunctionDef = _visit


def _plain(statement: ast.stmt) -> ast.stmt:
    if not isinstance(statement, ast.AnnAssign):
        return statement
    if statement.value is None:
        return ast.copy_location(ast.Pass(), statement)
    return ast.copy_location(ast.Assign([statement.target], statement.value), statement)


def _lean(code: CodeType, *, keeps_lines: bool) -> CodeType:
    """The same, but that functions have plain names alone, and without `keeps_lines`, each is on its first line."""
    constants = [
        _lean(value, keeps_lines=keeps_lines) if isinstance(value, CodeType) else value for value in code.co_consts
    ]
    lines = code.co_linetable if keeps_lines else _one_line(len(code.co_code) // CODE_UNIT_BYTES)
    return code.replace(co_consts=tuple(constants), co_qualname=code.co_name, co_linetable=lines)


@cache
def _one_line(units: int) -> bytes:
    """A location table (Objects/locations.md) in which so many code units are on one line; cached to be shared."""
    entries = [MOST_UNITS] * (units // MOST_UNITS) + ([units % MOST_UNITS] if units % MOST_UNITS else [])
    return b"".join(bytes((ENTRY | NO_COLUMNS << 3 | count - 1, 0)) for count in entries)


def _pyc(tree: ast.Module, source: bytes, name: str) -> bytes:
    """`tree` compiled. It bears a hash that nobody compares, since there is no source beside it."""
    code: CodeType = compile(ast.fix_missing_locations(tree), name, "exec", dont_inherit=True, optimize=2)
    code = _lean(code, keeps_lines=_is_own(name))
    header = importlib.util.MAGIC_NUMBER + HASHED.to_bytes(4, "little") + importlib.util.source_hash(source)
    return header + marshal.dumps(code)


def _is_own(name: str) -> bool:
    return name == "yiagent" or name.startswith(("yiagent/", "yiagent."))


def _parsed(needed: dict[str, Path], interpreter: Path) -> dict[str, ast.Module]:
    """Each module's tree, without what nobody uses."""
    trees: dict[str, ast.Module] = {}
    for name, file in needed.items():
        tree = _WithoutDocstrings().visit(ast.parse(file.read_bytes(), str(file)))
        trees[name] = _WithoutAnnotations().visit(tree)
    others = [tree for name, tree in trees.items() if not _is_own(name)]
    own = [tree for name, tree in trees.items() if _is_own(name)]
    take_out_unused(others, own, words_of_program(interpreter.read_bytes()))
    return trees


def _compiled(found: dict[str, Path], trees: dict[str, ast.Module]) -> Iterator[tuple[str, bytes, int]]:
    for name, file in found.items():
        path = name.replace(".", "/") + ("/__init__" if file.stem == "__init__" else "")
        yield f"{path}.pyc", _pyc(trees[name], file.read_bytes(), f"{path}.py"), FILE_MODE


def _main() -> None:
    interpreter, library_zip, agent_zip, *rest = map(Path, sys.argv[1:])
    checkout, packages, *library = rest
    everything = Modules([checkout, packages, *library])
    needed = everything.needed([*everything.of_package("yiagent"), *BY_NAME])
    trees = _parsed(needed, interpreter)
    of_library = {name: file for name, file in needed.items() if Modules(library).file(name) == file}
    write_zip(library_zip, _compiled(of_library, trees))
    entries = list(_compiled({name: file for name, file in needed.items() if name not in of_library}, trees))
    static = checkout / "yiagent" / "web" / "static"
    entries += [(path.relative_to(checkout).as_posix(), path.read_bytes(), FILE_MODE) for path in static.iterdir()]
    write_zip(agent_zip, entries)


if __name__ == "__main__":
    _main()
