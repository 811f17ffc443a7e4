"""What is taken out of the modules on the camera's card is what nobody can call, and nothing else."""

import ast
import importlib.util
from pathlib import Path
from textwrap import dedent
from typing import Any

_FILE = Path(__file__).parents[1] / "sd" / "build.d" / "unused.py"
_spec = importlib.util.spec_from_file_location("unused", _FILE)
assert _spec is not None
assert _spec.loader is not None
unused: Any = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(unused)


def _left(library: str, own: str = "", words: str = "") -> str:
    tree = ast.parse(dedent(library))
    unused.take_out_unused([tree], [ast.parse(dedent(own))], set(words.split()))
    return ast.unparse(tree)


def _names(library: str, own: str = "", words: str = "") -> list[str]:
    left = ast.walk(ast.parse(_left(library, own, words)))
    return sorted(node.name for node in left if isinstance(node, ast.FunctionDef | ast.ClassDef))


def test_what_is_named_stays() -> None:
    """By a call, an attribute, an import, a keyword, a word in a string or in the interpreter; the rest goes."""
    library = "\n".join(f"def {name}(): pass" for name in ("a", "b", "c", "d", "e", "f", "g"))
    assert _names(library, "a(); x.b; from y import c; z(d=1); w = 'call e(1)'", "f") == ["a", "b", "c", "d", "e", "f"]


def test_what_only_the_unused_names_goes_with_it() -> None:
    """A chain that nobody begins is gone to its end."""
    assert _names("def a(): b()\ndef b(): c()\ndef c(): pass\ndef used(): pass", "used()") == ["used"]


def test_methods_and_blocks_are_left_whole() -> None:
    """A class or a branch from which everything goes still stands; special methods and inner functions stay."""
    library = """
        class Base:
            def gone(self): pass
        class Kept:
            def __init__(self):
                def inner(): pass
        if Base:
            def gone_too(): pass
        else:
            def used(): pass
    """
    assert _names(library, "used(); Kept()") == ["Base", "Kept", "__init__", "inner", "used"]
    assert "pass" in _left(library, "used()")


def test_names_that_are_put_together_stay() -> None:
    """A part with an underscore at an end, in a string, stands for all names that begin or end with it."""
    library = "def _handle_conflict_error(): pass\ndef before_handlers(): pass\ndef other(): pass"
    own = "getattr(x, '_handle_conflict_%s' % y); getattr(x, y + '_handlers')"
    assert _names(library, own) == ["_handle_conflict_error", "before_handlers"]


def test_decorators_may_keep_what_they_are_given() -> None:
    """Only what wraps and forgets is known not to; and a decorator may look for the same name elsewhere."""
    library = """
        class Kind:
            @property
            def gone(self): pass
            @register("x")
            def kept(self): pass
        class Other:
            def kept(self): pass
    """
    assert _names(library, "Kind; Other") == ["Kind", "Other", "kept", "kept"]


def test_exports_follow() -> None:
    """A list of exports uses nothing, and names nothing that is gone: `import *` would fail for it."""
    left = _left(
        "__all__ = ('a', 'b', 'C')\n__all__ += ['d']\ndef a(): pass\ndef b(): pass\ndef d(): pass\nC = 1", "a()"
    )
    assert "__all__ = ('a', 'C')" in left
    assert "__all__ += []" in left
