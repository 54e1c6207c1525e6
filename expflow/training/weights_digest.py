"""One hash for all weights of a module, so that two trainings can be compared for equality."""

from __future__ import annotations

import hashlib

import torch
from torch import nn


def weights_digest(module: nn.Module, *, but: str = "") -> str:
    """sha256 over name, dtype, shape and bytes of every entry of the state dict, in the order of their names.

    Args:
        module: Any module.
        but: Dotted path of a submodule that is left out.
    """
    hashed = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        if isinstance(value, torch.Tensor) and not (but and name.startswith(f"{but}.")):
            tensor = value.detach().cpu().contiguous()
            hashed.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            hashed.update(tensor.view(-1).view(torch.uint8).numpy().tobytes())
    return hashed.hexdigest()
