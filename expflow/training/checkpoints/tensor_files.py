"""Files of tensors and plain data. Reading one runs no code.

They are torch's own zip files, read with ``weights_only=True``, and not safetensors: a training's state is a nested
tree (an optimizer's has whole numbers as keys, a schedule's has texts and lists), tensors share storage (tied weights),
and both would need a second format beside safetensors. Damage is the manifest's matter: torch loads a flipped bit.
"""

from __future__ import annotations

import io
import pickle
import re
import warnings
from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from expflow.errors import CheckpointDamaged, CheckpointUnsafe, CheckpointUnsaveable, UserError
from expflow.registry import load_dotted
from expflow.training.checkpoints.storage import HashingWriter, verify_checkpoint
from expflow.training.checkpoints.weight_files import check_weight_file
from expflow.training.ema import averaged_weights

PLAIN = (type(None), bool, int, float, complex, str, bytes, torch.dtype, torch.device, torch.Size)
MAPPINGS = (dict, OrderedDict, defaultdict)
ROWS = (list, tuple, set)


def save_tensors(tree: Any, file: HashingWriter | io.BytesIO) -> None:
    """Write tensors and plain data.

    Args:
        tree: What :func:`plain_data` has checked.
        file: Where it is written to.
    """
    torch.save(tree, file)  # type: ignore[arg-type]  # it needs nothing but write and flush


def plain_data(tree: Any, name: str, allow: Iterable[str] = ()) -> Any:
    """A tree of tensors and plain data, with numpy's numbers as Python's.

    Args:
        tree: Mappings, lists, tuples and sets of them, at any depth.
        name: What messages call it.
        allow: Classes (``package.module:Name``) that it may hold besides.

    Raises:
        CheckpointUnsaveable: It holds an object of another class.
    """
    kind = type(tree)
    if kind in PLAIN or isinstance(tree, Tensor):
        return tree
    if kind in MAPPINGS:
        items = [
            (plain_data(key, name, allow), plain_data(value, f"{name}.{key}", allow)) for key, value in tree.items()
        ]
        return OrderedDict(items) if kind is OrderedDict else dict(items)
    if kind in ROWS:
        return kind(plain_data(item, f"{name}[{index}]", allow) for index, item in enumerate(tree))
    if isinstance(tree, np.generic):
        return tree.item()
    written = f"{kind.__module__}:{kind.__qualname__}"
    if written in allow:
        return tree
    raise CheckpointUnsaveable(
        f"{name} is a {written}, and a checkpoint holds tensors, numbers, texts, lists and mappings alone. Let the "
        f"hook that saves it return those, or allow the class: trainer.checkpoint.allow: [{written}]"
    )


def load_tensors(path: Path, allow: Iterable[str] = ()) -> Any:
    """The content of a file, on the CPU.

    Args:
        path: The file.
        allow: Classes (``package.module:Name``) that it may hold besides tensors and plain data.

    Raises:
        CheckpointUnsafe: It asks for other classes or functions; the message names them.
        CheckpointDamaged: It is no whole file of torch.save, or cannot be read; the message says why.
    """
    allow = tuple(allow)
    check_weight_file(path, allow)
    try:
        with _allowed(allow), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's advice about files of other versions
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever is odd in a file ends somewhere in torch's reader
        if refused := _REFUSED_GLOBAL.search(str(error)):
            raise CheckpointUnsafe(
                f"{path} asks for {refused[1]}, which torch does not read as plain data; it was not read"
            ) from error
        raise CheckpointDamaged(f"{path} does not read: torch's reader ends with {_kind(error)}") from error


_REFUSED_GLOBAL = re.compile(r"GLOBAL (\S{1,200})")


def _kind(error: Exception) -> str:
    """An error in a few words; without torch's advice to read the file in an unsafe way."""
    text = str(error).partition("\n")[0]
    if isinstance(error, pickle.UnpicklingError) or "weights_only" in text:
        return "an error in its pickle"
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__


def _allowed(allow: Iterable[str]) -> AbstractContextManager[Any]:
    return torch.serialization.safe_globals([load_dotted(name) for name in allow])


def read_weights(path: Path, allow: Iterable[str] = ()) -> dict[str, Tensor]:
    """The weights in one of our checkpoints, one of Lightning's or timm's, or a saved ``state_dict()``.

    Args:
        path: A file, or the folder of one of our checkpoints.
        allow: Classes (``package.module:Name``) that it may hold besides tensors and plain data.

    Raises:
        UserError: There are no weights in it.
        CheckpointUnsafe: It asks for other classes or functions.
        CheckpointDamaged: It cannot be read, or is not what was written.
    """
    if path.is_dir():
        verify_checkpoint(path)
        path = path / WEIGHTS
    if not path.exists():
        raise UserError(f"there are no weights at {path}")
    tree = load_tensors(path, allow)
    if isinstance(tree, Mapping):
        tree = next((tree[key] for key in STATE_DICT if isinstance(tree.get(key), Mapping)), tree)
    if not isinstance(tree, Mapping) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in tree.items()
    ):
        raise UserError(f"{path} holds no state_dict: a mapping of names to tensors was expected")
    odd = [name for name, value in tree.items() if not _is_dense(value)]
    if odd:
        raise UserError(
            f"{path}: {odd[0]!a} is a sparse or quantized tensor or one without numbers; layers are filled from plain"
            " ones. Convert it (to_dense(), dequantize()) and save the state_dict again"
        )
    return dict(tree)


def _is_dense(tensor: Tensor) -> bool:
    return tensor.layout is torch.strided and not tensor.is_quantized and not tensor.is_meta


def read_averaged(path: Path, allow: Iterable[str] = ()) -> dict[str, Tensor]:
    """The averaged weights in the state of one of our checkpoints; none where its training kept no average.

    Args:
        path: The file of rank 0's state.
        allow: Classes (``package.module:Name``) that it may hold besides tensors and plain data.

    Raises:
        CheckpointUnsafe: It asks for other classes or functions.
        CheckpointDamaged: It cannot be read, or is not the state of a training.
    """
    state: Any = load_tensors(path, allow)
    try:
        averaged = averaged_weights(state["trainer"].get("callbacks", {}))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointDamaged(f"{path} does not hold the state of a training") from error
    if not all(isinstance(value, Tensor) and _is_dense(value) for value in averaged.values()):
        raise CheckpointDamaged(f"{path} holds an average of something else than weights")
    return averaged


STATE_DICT = ("state_dict", "model", "model_state_dict")
"""Keys of the weights in other checkpoints: Lightning's, timm's, and those of many scripts."""

WEIGHTS = "weights.pt"
"""The weights of a checkpoint, in a file of their own: evaluation and transfer need no more."""


def state_file(rank: int) -> str:
    """Name of the file with everything but weights that a rank needs to go on.

    Args:
        rank: The rank; the file of rank 0 also holds what is the same on all ranks.
    """
    return f"state-{rank}.pt"


def shape_differences(saved: Mapping[str, Tensor], wanted: Mapping[str, Tensor], most: int = 12) -> str:
    """The layers in which two networks differ, with both shapes, a line each; "" where none does.

    Args:
        saved: Weights of the one, from a checkpoint.
        wanted: Weights of the other, the model.
        most: Lines at most; a last one counts the others.
    """
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
