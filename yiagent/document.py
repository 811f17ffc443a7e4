"""YAML text to plain values with the line of each, and every fault of its syntax. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import yaml


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with the file: `path` like `mqtt.port`, `line` from 1 or None, and what is allowed there."""

    path: str
    line: int | None
    message: str

    def __str__(self) -> str:
        where = f"line {self.line}: " if self.line is not None else ""
        return f"{where}{self.path}: {self.message}" if self.path else f"{where}{self.message}"


# How DOS, and an editor that copies it, ends a file.
_DOS_END = re.compile(rb"\x1a[\x1a\r\n]*\Z")
_LINE_END = re.compile(rb"\r\n?|\n")
# A mark, or every other byte a NUL: text as some editors on Windows save it.
_WIDE = re.compile(rb"\xff\xfe|\xfe\xff|\0\0\xfe\xff|(?:[^\0]\0){2}|(?:\0[^\0]){2}", re.DOTALL)
_NO_TABS = "there is a tab: replace it, and every other one, by spaces"
_NO_TAGS = "a value that begins with ! (a tag) must stand in quotes"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}")
# No setting lies deeper; of what does, the end is told.
_DEEPEST = 4
_DEEPEST_NODE = 20


def shown_key(key: str) -> str:
    """A key as a fault may show it: a long or odd "name" is more likely a value without its name: a password."""
    return key if _NAME.fullmatch(key) else "…"


class _Loader(yaml.SafeLoader):
    """PyYAML's parser without aliases: a settings file needs none, and a few lines of them can fill all memory.

    Nor does it go deep: the time that takes it grows with the square of the depth.
    """

    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        # A password that begins with one of these signs would lose a part of itself, or all.
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            self._refuse(event, "a value that begins with & or * (an anchor, an alias) must stand in quotes")
        if getattr(event, "tag", None) is not None:
            self._refuse(event, _NO_TAGS)
        if self._depth == _DEEPEST_NODE:
            raise RecursionError
        self._depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1

    def _refuse(self, event: Any, problem: str) -> None:
        raise yaml.composer.ComposerError(None, None, problem, event.start_mark)


class Document:
    """One YAML text as plain values, with the line of each path and every fault of its syntax.

    Scalars stay text (the schema knows what each should be), so a password of `0123` or `on` is not made a number
    or a truth value on the way.
    """

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self.lines: dict[tuple[str, ...], int] = {}

    def read(self, text: bytes) -> dict[str, Any] | None:
        """The document's settings; None where the text is no document of settings at all."""
        text = _DOS_END.sub(b"", text)
        try:
            # PyYAML's reader takes UTF-8 with or without a mark, UTF-16 with one, and any line ending.
            loader = _Loader(text)
            try:
                node = loader.get_single_node()
            except (ValueError, OverflowError):
                # PyYAML makes numbers of any digits it finds, such as those of "\UFFFFFFFF" or of `%YAML 9…9`.
                problem = "a number in it is too large"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=loader.get_mark()) from None
            finally:
                loader.dispose()
            value = self._value(node, ()) if node is not None else {}
        except yaml.MarkedYAMLError as error:
            # str(error) quotes the line, which may hold a password.
            mark = error.problem_mark or error.context_mark
            problem = f"{error.problem or error.context}"
            # PyYAML quotes the handle of a tag that it does not know.
            problem = _NO_TAGS if "tag handle" in problem else _NO_TABS if r"'\t'" in problem else problem
            self._fail(mark.line + 1 if mark else None, f"is not valid YAML: {problem}")
        except yaml.reader.ReaderError:
            self._fail(*_why_no_text(text))
        except RecursionError:
            self._fail(None, "is nested too deeply")
        else:
            if isinstance(value, dict):
                return value
            if not self.faults:
                self._fail(1, "must be settings of the form `name: value`")
        return None

    def fault(self, path: list[Any], message: str) -> Fault:
        """A fault at `path`, with the line of the nearest part of it that stands in the file."""
        keys = tuple(map(str, path))
        line = next((self.lines[keys[:end]] for end in range(len(keys), 0, -1) if keys[:end] in self.lines), None)
        return Fault(".".join(keys), line, message)

    def _fail(self, line: int | None, message: str) -> None:
        self.faults.append(Fault("", line, message))

    def _value(self, node: yaml.Node, path: tuple[str, ...]) -> Any:
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self._value(child, path) for child in node.value]
        # A quoted "null" is a word; `style` is None only for plain scalars.
        if getattr(node, "style", None) is None and node.value in ("", "~", "null", "Null", "NULL"):
            return None
        return node.value

    def _mapping(self, node: yaml.MappingNode, path: tuple[str, ...]) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                self._fail(line, "a setting's name must be a word")
                continue
            here = (*path, key_node.value)
            if key_node.value in result:
                where = ".".join(map(shown_key, here[-_DEEPEST:]))
                self.faults.append(Fault(where, line, f"stands twice (first in line {self.lines[here]})"))
                continue
            self.lines[here] = line
            result[key_node.value] = self._value(value_node, here)
        return result


def _why_no_text(text: bytes) -> tuple[int | None, str]:
    """What is wrong with bytes that PyYAML's reader refuses, and in which line."""
    if _WIDE.match(text) is not None:
        return None, "is saved as UTF-16 or UTF-32: save it again, as UTF-8"
    try:
        characters = text.decode()
    except UnicodeDecodeError as error:
        return _line(text[: error.start]), "is not text in UTF-8: save the file again, as UTF-8"
    odd = yaml.reader.Reader.NON_PRINTABLE.search(characters)
    before = characters[: odd.start()] if odd is not None else ""
    return _line(before.encode()), "holds control characters, as no text in UTF-8 does: delete them"


def _line(before: bytes) -> int:
    return len(_LINE_END.findall(before)) + 1
