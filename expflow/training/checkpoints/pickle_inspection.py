"""What a pickle in a file of weights would do, found out without doing it.

torch's reader of weights refuses functions that could run code, but it obeys sizes: ``bytearray(4_000_000_000)``, a
tensor with strides of zero, a storage that is longer than its bytes. Here the operations of a pickle are followed one
by one over values that are only described, and every size is compared with the bytes that are there.
"""

from __future__ import annotations

import math
import pickletools
import re
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO

MOST_OPERATIONS = 1_000_000
"""Of one pickle; a network with 1,000 tensors takes about 50,000, its optimizer twice as many."""
DEEPEST = 64
"""Tuples, lists and mappings within each other."""
LONGEST_NAME = 100

ITEM_BYTES: Mapping[str, int] = {
    **dict.fromkeys(("ComplexDouble",), 16),
    **dict.fromkeys(("Double", "Long", "ComplexFloat"), 8),
    **dict.fromkeys(("Float", "Int", "QInt32"), 4),
    **dict.fromkeys(("Half", "BFloat16", "Short"), 2),
}
"""Bytes of an element of torch's storages; all others have one."""

BROKEN = "its pickle is broken, or a part of one"

_STORAGE = re.compile(r"torch(?:\.storage|\.cuda)?:(\w*)Storage")
_DATA_TYPE = re.compile(
    r"torch:(?:(?:bfloat|float|complex|u?int|qu?int|bits)\d[0-9a-z_]*|bool|double|float|half|int|long|short)"
)
_REBUILT = "torch._utils:_rebuild_"
_SUBCLASS = "torch._tensor:_rebuild_from_type_v2"
_TENSORS = frozenset(f"{_REBUILT}{name}" for name in ("tensor", "tensor_v2", "tensor_v3", "qtensor"))
_CALLS = _TENSORS | {
    *(f"{_REBUILT}{name}" for name in ("parameter", "parameter_with_state", "sparse_tensor")),
    *("torch:Size", "torch:device", "torch.serialization:_get_layout", _SUBCLASS),
    *("collections:OrderedDict", "collections:Counter", "_codecs:encode"),
    *("builtins:bytearray", "builtins:set", "builtins:complex"),
}
"""What makes values out of plain data, and takes no more memory than these do."""
_NAMED = _CALLS | {
    "torch.nn.parameter:Parameter",
    "torch:Tensor",
    "torch:per_tensor_affine",
    "torch:per_channel_affine",
}
_ENCODINGS = frozenset({"latin1", "latin-1", "ascii", "utf-8"})
"""Of bytes in a pickle. Others of Python's take a time that grows with the square of a text's length."""

_CONSTANTS = frozenset({"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINSTRING"})
_TEXTS = frozenset(
    {"BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "UNICODE", "SHORT_BINSTRING", "BINSTRING", "STRING"}
)


class PickleRefused(Exception):
    """The operations of a pickle lead to nothing that weights consist of; the message says what."""


@dataclass(slots=True)
class _Value:
    """A value that is only described: a name, a storage, a container or what a call gives."""

    kind: str
    name: str = ""
    items: tuple[Any, ...] = ()
    depth: int = 1


@dataclass
class PickleContent:
    """What one pickle would do.

    Attributes:
        names: The classes and functions that it asks for, as ``module:Name``, in their order.
        storages: Key of each storage -> its bytes.
        problem: What it has that weights do not, or that is broken; "" for nothing.
        whole: Whether its end was reached.
    """

    names: dict[str, None] = field(default_factory=dict)
    storages: dict[str, int] = field(default_factory=dict)
    problem: str = ""
    whole: bool = False

    def unsafe_names(self, allowed: Iterable[str]) -> list[str]:
        """The names that are neither of tensors and plain data nor allowed.

        Args:
            allowed: Classes (``package.module:Name``) that are allowed.
        """
        permitted = set(allowed)
        return sorted(name for name in self.names if not is_of_weights(name) and name not in permitted)


def is_of_weights(name: str) -> bool:
    """Whether a class or function is one of those that tensors and plain data are stored with.

    Args:
        name: Its name, as ``module:Name``.
    """
    return name in _NAMED or _STORAGE.fullmatch(name) is not None or _DATA_TYPE.fullmatch(name) is not None


def inspect_pickle(stream: BinaryIO, allowed: Iterable[str] = ()) -> PickleContent:
    """Follow the operations of the pickle that begins at the stream's position; nothing is imported or called.

    Args:
        stream: Where it is read from; afterwards its position is behind the pickle.
        allowed: Classes (``package.module:Name``) that it may make besides tensors and plain data.

    Returns:
        What it would do. Where it has a problem, the names are still those of all of it, as far as it can be read.
    """
    reader = _PickleReader(frozenset(allowed))
    try:
        for number, (operation, argument, _) in enumerate(pickletools.genops(stream)):
            if number > MOST_OPERATIONS:
                reader.refuse(f"its pickle has more than {MOST_OPERATIONS:,} operations")
                break
            reader.take(operation.name, argument)
            reader.content.whole = operation.name == "STOP"
    except Exception:  # noqa: BLE001 - pickletools raises all sorts at broken input
        reader.refuse(BROKEN)
    return reader.content


class _PickleReader:
    """Takes the operations of one pickle in their order."""

    def __init__(self, allowed: frozenset[str]) -> None:
        self.content = PickleContent()
        self._allowed = allowed
        self._stack: list[Any] = []
        self._below: list[list[Any]] = []  # what lies below each open mark
        self._memo: dict[int, Any] = {}
        self._texts: list[str] = []

    def take(self, name: str, argument: Any) -> None:
        """One operation. A problem ends the description, but not the search for names."""
        if name in _TEXTS:
            self._texts = [*self._texts[-1:], str(argument)]
        if name in ("GLOBAL", "INST", "STACK_GLOBAL"):
            self._name(*(self._texts if name == "STACK_GLOBAL" else str(argument).split(" ", 1)))
        if not self.content.problem:
            try:
                self._describe(name, argument)
            except PickleRefused as error:
                self.refuse(str(error))
            except Exception:  # noqa: BLE001 - an operation on values that are not there, or are of another kind
                self.refuse(BROKEN)
        if self.content.problem:
            self._remember_texts(name, argument)

    def refuse(self, problem: str) -> None:
        """Note the first problem."""
        self.content.problem = self.content.problem or problem

    def _describe(self, name: str, argument: Any) -> None:
        if name in _CONSTANTS:
            self._stack.append(argument)
        elif (handler := _HANDLERS.get(name)) is not None:
            handler(self, argument)
        else:
            raise PickleRefused(f"its pickle has the operation {name}, which torch.save does not write")

    def _remember_texts(self, name: str, argument: Any) -> None:
        """Of a pickle that torch does not read: texts in the memo, which names may be made of."""
        if name == "MEMOIZE":
            self._memo[len(self._memo)] = self._texts[-1] if self._texts else None
        elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
            self._memo[int(argument)] = self._texts[-1] if self._texts else None
        elif name in ("BINGET", "LONG_BINGET", "GET") and isinstance(text := self._memo.get(int(argument)), str):
            self._texts = [*self._texts[-1:], text]

    def _name(self, module: str = "?", name: str = "?") -> None:
        module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
        full = f"{module}:{name}"
        shown = full if full.isprintable() else ascii(full)
        shown = shown if len(shown) <= LONGEST_NAME else f"{shown[:LONGEST_NAME]}…"
        self.content.names[shown] = None
        self._stack.append(_Value("name", full))

    def _pop(self) -> Any:
        return self._stack.pop()  # of an empty stack: IndexError, and so a broken pickle

    def _to_mark(self) -> list[Any]:
        items, self._stack = self._stack, self._below.pop()
        return items

    def _mark(self, _: Any) -> None:
        self._below.append(self._stack)
        self._stack = []

    def _put(self, argument: int) -> None:
        self._memo[argument] = self._stack[-1]

    def _get(self, argument: int) -> None:
        value = self._memo[argument]
        if isinstance(value, str):
            self._texts = [*self._texts[-1:], value]
        self._stack.append(value)

    def _tuple(self, items: list[Any]) -> None:
        self._stack.append(_Value("tuple", items=tuple(items), depth=_depth(items)))

    def _fixed_tuple(self, length: int) -> None:
        items = self._stack[-length:]
        if len(items) < length:
            raise PickleRefused(BROKEN)
        del self._stack[-length:]
        self._tuple(items)

    def _fill(self, items: list[Any]) -> None:
        """A list or mapping takes in items."""
        container = self._stack[-1]
        if not isinstance(container, _Value) or container.kind in ("name", "tuple"):
            raise PickleRefused("its pickle fills what is no list and no mapping")
        container.depth = max(container.depth, _depth(items))

    def _set_item(self, _: Any) -> None:
        value, key = self._pop(), self._pop()
        self._fill([key, value])

    def _append(self, _: Any) -> None:
        self._fill([self._pop()])

    def _reduce(self, _: Any) -> None:
        arguments, called = self._pop(), self._pop()
        self._check_call(called, arguments)
        self._stack.append(_Value("made", called.name, depth=_depth([arguments])))

    def _check_call(self, called: Any, arguments: Any) -> None:
        if not isinstance(called, _Value) or called.kind != "name" or not _is_tuple(arguments):
            raise PickleRefused("its pickle calls what is no function")
        if called.name not in _CALLS and called.name not in self._allowed:
            raise PickleRefused(f"its pickle calls {called.name[:LONGEST_NAME]!a}, which weights do not need")
        if called.name in _TENSORS:
            _check_tensor(*arguments.items[:4])
        if called.name in ("builtins:bytearray", "_codecs:encode"):
            _check_bytes(*arguments.items)
        if called.name == _SUBCLASS:  # (function, class, its arguments, state)
            function, _, inner, *_ = arguments.items
            self._check_call(function, inner)

    def _new_object(self, _: Any) -> None:
        _, made = self._pop(), self._pop()
        if not isinstance(made, _Value) or made.kind != "name":
            raise PickleRefused("its pickle makes an object of what is no class")
        if made.name not in self._allowed and made.name != "torch.nn.parameter:Parameter":
            raise PickleRefused(f"its pickle makes a {made.name[:LONGEST_NAME]!a}, which weights do not need")
        self._stack.append(_Value("made", made.name))

    def _build(self, _: Any) -> None:
        if len(self._stack) < 2:
            raise PickleRefused(BROKEN)
        self._pop()

    def _storage(self, _: Any) -> None:
        """``("storage", class, key, device, elements)``, and in old files a view."""
        identity = self._pop()
        items: tuple[Any, ...] = identity.items if _is_tuple(identity) else ()
        if len(items) < 5 or items[0] not in ("storage", b"storage") or not isinstance(items[1], _Value):
            raise PickleRefused("its pickle refers to what is no storage of a tensor")
        match, (key, elements) = _STORAGE.fullmatch(items[1].name), (items[2], items[4])
        if match is None or not isinstance(key, str | int) or not _is_count(elements):
            raise PickleRefused("its pickle refers to what is no storage of a tensor")
        size = elements * ITEM_BYTES.get(match[1], 1)
        self.content.storages[str(key)] = max(size, self.content.storages.get(str(key), 0))
        self._stack.append(_Value("storage", items=(elements,)))


def _is_tuple(value: Any) -> bool:
    return isinstance(value, _Value) and value.kind == "tuple"


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**62


def _depth(items: Iterable[Any]) -> int:
    """The depth of a container of these items. Raises PickleRefused where that is too deep."""
    depth = 1 + max((item.depth for item in items if isinstance(item, _Value)), default=0)
    if depth > DEEPEST:
        raise PickleRefused(f"its pickle nests more than {DEEPEST} containers")
    return depth


def _check_bytes(content: Any = "", encoding: Any = "latin1") -> None:
    """Raise where bytes are asked for by their number, or in an encoding that takes long."""
    if not isinstance(content, str | bytes | _Value) or encoding not in _ENCODINGS:
        raise PickleRefused("its pickle makes bytes of what is no text")


def _check_tensor(storage: Any = None, offset: Any = None, size: Any = None, stride: Any = None) -> None:
    """Raise unless a tensor has no more elements than its storage, and none of them lies outside."""
    if not isinstance(storage, _Value) or storage.kind != "storage" or not (_is_tuple(size) and _is_tuple(stride)):
        raise PickleRefused("its pickle makes a tensor of what is no storage")
    sizes, strides = size.items, stride.items
    if not all(map(_is_count, (offset, *sizes, *strides))) or len(sizes) != len(strides):
        raise PickleRefused("its pickle makes a tensor whose shape is none")
    count = math.prod(sizes)
    last = offset + sum((length - 1) * step for length, step in zip(sizes, strides, strict=True))
    if count and (count > storage.items[0] or last >= storage.items[0]):
        shape = "x".join(map(str, sizes))
        raise PickleRefused(f"it has a tensor of {shape} elements in a storage of {storage.items[0]}")


_HANDLERS: Mapping[str, Callable[[_PickleReader, Any], None]] = {
    "PROTO": lambda reader, _: None,
    "GLOBAL": lambda reader, _: None,  # its name was taken
    "MARK": _PickleReader._mark,
    "NONE": lambda reader, _: reader._stack.append(None),
    "NEWTRUE": lambda reader, _: reader._stack.append(True),
    "NEWFALSE": lambda reader, _: reader._stack.append(False),
    "EMPTY_TUPLE": lambda reader, _: reader._tuple([]),
    "EMPTY_LIST": lambda reader, _: reader._stack.append(_Value("list")),
    "EMPTY_DICT": lambda reader, _: reader._stack.append(_Value("dict")),
    "EMPTY_SET": lambda reader, _: reader._stack.append(_Value("set")),
    "TUPLE": lambda reader, _: reader._tuple(reader._to_mark()),
    "TUPLE1": lambda reader, _: reader._fixed_tuple(1),
    "TUPLE2": lambda reader, _: reader._fixed_tuple(2),
    "TUPLE3": lambda reader, _: reader._fixed_tuple(3),
    "APPEND": _PickleReader._append,
    "APPENDS": lambda reader, _: reader._fill(reader._to_mark()),
    "SETITEM": _PickleReader._set_item,
    "SETITEMS": lambda reader, _: reader._fill(reader._to_mark()),
    "BINPUT": _PickleReader._put,
    "LONG_BINPUT": _PickleReader._put,
    "BINGET": _PickleReader._get,
    "LONG_BINGET": _PickleReader._get,
    "REDUCE": _PickleReader._reduce,
    "NEWOBJ": _PickleReader._new_object,
    "BUILD": _PickleReader._build,
    "BINPERSID": _PickleReader._storage,
    "STOP": lambda reader, _: None,
}
"""The operations that torch reads, besides constants."""
