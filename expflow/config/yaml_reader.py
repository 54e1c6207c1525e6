"""YAML 1.2 text to a located tree, within limits: of size, values, depth and problems.

ruamel.yaml parses; the tree is built here from its events, because only there are aliases, depth and duplicate keys
seen before anything is expanded. Plain scalars follow the core schema of YAML 1.2 (section 10.3.2): ``1e-4`` is a
number, ``no`` and ``12:30`` are text.
"""

from __future__ import annotations

import errno
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from expflow.config.tree import Mark, Node, problem_at
from expflow.errors import MAX_PROBLEMS, ExperimentInvalid, Problem
from expflow.files import read_bounded

MAX_BYTES = 1 << 20
MAX_DEPTH = 30
MAX_VALUES = 50_000
"""Keys and values of one file; so many are parsed in about two seconds."""
MAX_DIGITS = 100  # longer ones are text: no field takes them, and reading them as numbers costs quadratic time

_INT = re.compile(r"[-+]?[0-9]+")
_BASED = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS: dict[str, Any] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".inf", "+.inf", ".Inf", "+.Inf"), float("inf")),
    **dict.fromkeys(("-.inf", "-.Inf"), float("-inf")),
    ".nan": float("nan"),
}


def scalar(text: str) -> Any:
    """The value of a plain (unquoted) scalar.

    Args:
        text: The scalar as written.
    """
    if text in _WORDS:
        return _WORDS[text]
    if len(text) > MAX_DIGITS:
        return text
    if _INT.fullmatch(text):
        return int(text)
    if _BASED.fullmatch(text):
        return int(text, 0)
    return float(text) if _FLOAT.fullmatch(text) else text


@dataclass
class _Open:
    """A mapping or list whose end has not been seen yet. ``key`` is the mapping's key that waits for its value."""

    mark: Mark
    children: Any  # dict[str, Node] or list[Node]
    key: tuple[str, Mark] | None = None


@dataclass
class _Builder:
    file: str
    problems: list[Problem] = field(default_factory=list)
    open: list[_Open] = field(default_factory=list)
    root: Node | None = None
    documents: int = 0
    values: int = 0
    last: Mark | None = None

    def mark(self, event: Any) -> Mark:
        return Mark(self.file, event.start_mark.line + 1, event.start_mark.column + 1)

    def key(self) -> str:
        return ".".join(level.key[0] for level in self.open if level.key)

    def refuse(self, event: Any, message: str) -> None:
        self.refuse_at(self.mark(event), message)

    def refuse_at(self, mark: Mark, message: str) -> None:
        self.problems.append(problem_at(mark, self.key(), message))
        if len(self.problems) > MAX_PROBLEMS:
            raise ExperimentInvalid(self.problems)

    def take(self, event: Any) -> None:
        """Build on with one parser event."""
        kind, self.last = type(event).__name__, self.mark(event)
        if kind == "DocumentStartEvent":
            self.documents += 1
            if self.documents > 1:
                self.refuse(event, "a second document; one file is one experiment")
        elif kind == "AliasEvent":
            mend = "write the value out, or put shared parts into a file that this one `extends`"
            self.refuse(event, f"expected a value, found the alias *{event.anchor}; {mend}")
            self.place(Node(None, self.mark(event)), event)
        elif kind in ("ScalarEvent", "MappingStartEvent", "SequenceStartEvent"):
            self.value(kind, event)
        elif kind in ("MappingEndEvent", "SequenceEndEvent"):
            closed = self.open.pop()
            children = closed.children
            self.place(Node(children if isinstance(children, dict) else tuple(children), closed.mark), event)

    def value(self, kind: str, event: Any) -> None:
        self.values += 1
        if self.values > MAX_VALUES:
            self.refuse(event, f"more than {MAX_VALUES:,} keys and values; expected an experiment file")
            raise ExperimentInvalid(self.problems)
        if event.anchor is not None:
            self.refuse(event, f"expected a value, found the anchor &{event.anchor}; anchors and aliases are not read")
        if event.tag is not None:
            tag = str(event.tag).replace("tag:yaml.org,2002:", "!!")
            self.refuse(event, f"expected a plain value, found the tag {tag}; tags are not read")
        if kind == "ScalarEvent":
            quoted = event.style is not None
            if "\0" in event.value:
                self.refuse(event, "expected text, found the character \\0 in it")
            if not event.value.isascii() and not _encodes(event.value):
                self.refuse(event, "expected text, found half of a surrogate pair")
            self.place(Node(event.value if quoted else scalar(event.value), self.mark(event)), event)
            return
        if len(self.open) >= MAX_DEPTH:
            self.refuse(event, f"nested deeper than {MAX_DEPTH} levels")
            raise ExperimentInvalid(self.problems)
        self.open.append(_Open(self.mark(event), {} if kind == "MappingStartEvent" else []))

    def place(self, node: Node, event: Any) -> None:
        """Put a finished value where it belongs: the root, a list, or a mapping's key or value."""
        if not self.open:
            self.root = node if self.root is None else self.root
            return
        parent = self.open[-1]
        if isinstance(parent.children, list):
            parent.children.append(node)
        elif parent.key is None:
            self.begin_key(parent, node, event)
        else:
            key, key_mark = parent.key
            parent.children.setdefault(key, Node(node.value, node.mark, key_mark))
            parent.key = None

    def begin_key(self, parent: _Open, node: Node, event: Any) -> None:
        if node.is_mapping or node.is_list:
            self.refuse_at(node.mark, "expected a word as key, found a list or mapping")
        key = str(getattr(event, "value", ""))
        first = parent.children.get(key)
        parent.key = (key, node.mark)
        if first is not None and first.key_mark is not None:
            where = f"line {first.key_mark.line}, column {first.key_mark.column}"
            self.refuse_at(node.mark, f"duplicate key; it was first given at {where}")


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def parse(text: str, file: str) -> Node:
    """The tree of a YAML text. An empty text is an empty mapping. Passes on an ExperimentInvalid.

    Args:
        text: The text.
        file: Its name in messages.
    """
    root = parse_value(text, file)
    return root if root.value is not None else Node({}, Mark(file, 1, 1))


def parse_value(text: str, file: str) -> Node:
    """As :func:`parse`, for one value of a key: an empty text is null.

    Args:
        text: The text.
        file: Its name in messages.

    Raises:
        ExperimentInvalid: It is not YAML, or not of the kind that is read; it holds all problems.
    """
    from ruamel.yaml import YAML  # 0.1 s, and only needed where a file is read
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    builder = _Builder(file)
    try:
        for event in YAML(typ="safe", pure=True).parse(text):
            builder.take(event)
    except ExperimentInvalid:
        raise
    except MarkedYAMLError as error:
        place = error.problem_mark or error.context_mark
        mark = Mark(file, place.line + 1, place.column + 1) if place else Mark(file, 1, 1)
        builder.problems.append(problem_at(mark, builder.key(), f"not YAML: {error.problem or error.context}"))
    except YAMLError as error:  # a control character: the reader knows only its offset
        line, column = _position(text, getattr(error, "position", 0))
        character = getattr(error, "character", "")
        character = chr(character) if isinstance(character, int) else character
        builder.problems.append(
            problem_at(Mark(file, line, column), "", f"not YAML: the character {character!a} is not allowed")
        )
    except Exception as error:  # noqa: BLE001  the parser raises whatever odd text leads it to
        mark = builder.last or Mark(file, 1, 1)
        builder.problems.append(problem_at(mark, builder.key(), f"not YAML behind this place: {error}"))
    if builder.problems:
        raise ExperimentInvalid(builder.problems)
    return builder.root if builder.root is not None else Node(None, Mark(file, 1, 1))


def _position(text: str, offset: int) -> tuple[int, int]:
    before = text[:offset]
    return before.count("\n") + 1, offset - (before.rfind("\n") + 1) + 1


def read_text(path: Path, file: str, at: Mark | None = None) -> str:
    """The text of a file of at most 1 MiB.

    Args:
        path: The file.
        file: Its name in messages.
        at: The place that names it (an ``extends``), if there is one.

    Raises:
        ExperimentInvalid: There is no such file, it is a pipe or a device, too large, or not UTF-8.
    """
    try:
        data = read_bounded(path, MAX_BYTES)
    except OSError as error:
        if error.errno == errno.EFBIG:
            reason = f"larger than {MAX_BYTES >> 20} MiB; expected an experiment file"
            raise ExperimentInvalid([Problem(file, 1, 1, "", reason)]) from None
        reason = "no such file" if isinstance(error, FileNotFoundError) else (error.strerror or str(error)).lower()
        if at is not None:
            raise ExperimentInvalid([problem_at(at, "extends", f"{reason}: {file}{_close_by(path)}")]) from None
        raise ExperimentInvalid([Problem(file, 0, 0, "", f"{reason}{_close_by(path)}")]) from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8-sig")
        line, column = _position(before, len(before))
        raise ExperimentInvalid([Problem(file, line, column, "", "expected UTF-8 text")]) from None


def _close_by(path: Path) -> str:
    from expflow.errors import nearest

    try:
        names = [file.name for file in path.parent.iterdir() if file.suffix in (".yaml", ".yml")]
    except OSError:
        return ""
    close = nearest(path.name, names)
    return f"; nearest: {path.parent / close}" if close else ""


def read(path: Path, file: str | None = None, at: Mark | None = None) -> tuple[str, Node]:
    """Text and tree of a YAML file.

    Args:
        path: The file.
        file: Its name in messages; by default the path.
        at: The place that names it (an ``extends``), if there is one.

    Raises:
        ExperimentInvalid: It cannot be read, is not YAML, or not a mapping of keys.
    """
    name = file or str(path)
    text = read_text(path, name, at)
    root = parse(text, name)
    if not root.is_mapping:
        raise ExperimentInvalid(
            [problem_at(root.mark, "", "expected a mapping of keys to values, such as `task: classification`")]
        )
    return text, root
