"""Files of tensors and plain data. Reading one runs no code.

They are torch's own zip files, read with ``weights_only=True``, and not safetensors: a training's state is a nested
tree (an optimizer's has whole numbers as keys, a schedule's has texts and lists), tensors share storage (tied weights),
and both would need a second format beside safetensors. Damage is the manifest's matter: torch loads a flipped bit.
"""

from __future__ import annotations

import io
import pickle
import warnings
from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from expflow.errors import CheckpointDamaged, CheckpointUnsafe, CheckpointUnsaveable, UserError
from expflow.registry import load_dotted
from expflow.training.checkpoints.folder import Hashed

PLAIN = (type(None), bool, int, float, complex, str, bytes, torch.dtype, torch.device, torch.Size)
MAPPINGS = (dict, OrderedDict, defaultdict)
ROWS = (list, tuple, set)


def dump(tree: Any, file: Hashed | io.BytesIO) -> None:
    """Write ``tree``, which :func:`plain` has checked, to ``file``."""
    torch.save(tree, file)  # type: ignore[arg-type]  # it needs nothing but write and flush


def plain(tree: Any, name: str, allow: Iterable[str] = ()) -> Any:
    """``tree`` with numpy's numbers as Python's; ``name`` is what messages call it.

    Raises CheckpointUnsaveable where it holds anything but tensors, plain data and classes that ``allow`` names.
    """
    kind = type(tree)
    if kind in PLAIN or isinstance(tree, Tensor):
        return tree
    if kind in MAPPINGS:
        items = [(plain(key, name, allow), plain(value, f"{name}.{key}", allow)) for key, value in tree.items()]
        return OrderedDict(items) if kind is OrderedDict else dict(items)
    if kind in ROWS:
        return kind(plain(each, f"{name}[{index}]", allow) for index, each in enumerate(tree))
    if isinstance(tree, np.generic):
        return tree.item()
    written = f"{kind.__module__}:{kind.__qualname__}"
    if written in allow:
        return tree
    raise CheckpointUnsaveable(
        f"{name} is a {written}, and a checkpoint holds tensors, numbers, texts, lists and mappings alone. Let the "
        f"hook that saves it return those, or allow the class: trainer.checkpoint.allow: [{written}]"
    )


def load(path: Path, allow: Iterable[str] = ()) -> Any:
    """What the file ``path`` holds, on the CPU.

    Raises CheckpointUnsafe, naming them, where it asks for globals that are not data and that ``allow`` does not name;
    CheckpointDamaged where it does not read at all.
    """
    try:
        with _allowed(allow), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Detected pickle protocol", category=UserWarning)
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        names = unsafe_globals(path, allow)
        if not names:
            raise CheckpointDamaged(f"{path} is no file of weights, or a part of one") from error
        raise CheckpointUnsafe(
            f"{path} asks for {', '.join(names)}, which is no tensor and no plain data: it was not read. Save the "
            "state_dict() of its network to a file of its own, or name under trainer.checkpoint.allow what you trust"
        ) from None
    except (RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        raise CheckpointDamaged(
            f"{path} does not read: {(str(error) or type(error).__name__).splitlines()[0]}"
        ) from error


def unsafe_globals(path: Path, allow: Iterable[str] = ()) -> list[str]:
    """The globals in the file that are neither data nor allowed, as ``module:Name``. Only names are read."""
    try:
        with _allowed(allow):
            names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except (ValueError, RuntimeError):  # not a zip file: the pickle of torch before 1.6, or of something else
        names = list(_pickled_globals(path.read_bytes()))
    return sorted({":".join(name.rsplit(".", 1)) for name in names})


def _pickled_globals(data: bytes) -> Iterator[str]:
    """Names that a bare pickle asks for, read from its opcodes without running it."""
    import pickletools

    texts: list[str] = []
    try:
        for code, argument, _ in pickletools.genops(data):
            if code.name == "GLOBAL":
                yield str(argument).replace(" ", ".")
            elif code.name == "STACK_GLOBAL" and len(texts) > 1:
                yield f"{texts[-2]}.{texts[-1]}"
            elif isinstance(argument, str):
                texts.append(argument)
    except ValueError:
        return


def _allowed(allow: Iterable[str]) -> AbstractContextManager[Any]:
    return torch.serialization.safe_globals([load_dotted(name) for name in allow])


def weights_of(path: Path, allow: Iterable[str] = ()) -> dict[str, Tensor]:
    """The weights in ``path``: one of our checkpoints, one of Lightning's or timm's, or a saved ``state_dict()``.

    Raises CheckpointDamaged, CheckpointUnsafe, and UserError where there are no weights in it.
    """
    from expflow.training.checkpoints.folder import verify

    if path.is_dir():
        verify(path)
        path = path / WEIGHTS
    if not path.exists():
        raise UserError(f"there are no weights at {path}")
    tree = load(path, allow)
    if isinstance(tree, Mapping):
        tree = next((tree[key] for key in STATE_DICT if isinstance(tree.get(key), Mapping)), tree)
    if not isinstance(tree, Mapping) or not all(isinstance(each, Tensor) for each in tree.values()):
        raise UserError(f"{path} holds no state_dict: a mapping of names to tensors was expected")
    return dict(tree)


STATE_DICT = ("state_dict", "model", "model_state_dict")
"""Under which checkpoints of others keep their weights: Lightning's, timm's and many a script's."""

WEIGHTS = "weights.pt"
"""The weights of a checkpoint, in a file of their own: evaluation and transfer need no more."""


def state_file(rank: int) -> str:
    """The file with all else that ``rank`` needs to go on; rank 0's also holds what is the same on all ranks."""
    return f"state-{rank}.pt"


def difference(saved: Mapping[str, Tensor], wanted: Mapping[str, Tensor], most: int = 12) -> str:
    """Which layers of two networks differ, with both shapes, a line each; "" where none does."""
    lines = []
    for name in sorted(saved.keys() | wanted.keys()):
        there, here = _shape(saved.get(name)), _shape(wanted.get(name))
        if there != here:
            lines.append(f"{name}: {there} in the checkpoint, {here} in the model")
    left = len(lines) - most
    return "\n".join(lines[:most] + ([f"and {left} more"] if left > 0 else []))


def _shape(tensor: Any) -> str:
    if tensor is None:
        return "absent"
    return "x".join(map(str, tensor.shape)) or "one number" if isinstance(tensor, Tensor) else type(tensor).__name__
