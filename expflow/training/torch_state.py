"""What torch keeps for the whole process: saved before a trial and restored after it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.utils.deterministic
from torch.nn.modules import module
from torch.optim import optimizer

DETERMINISTIC: Any = torch.utils.deterministic
_BACKENDS: Any = torch.backends

_FLAGS: tuple[tuple[Any, str], ...] = (
    (DETERMINISTIC, "fill_uninitialized_memory"),
    (_BACKENDS.cudnn, "enabled"),
    (_BACKENDS.cudnn, "benchmark"),
    (_BACKENDS.cudnn, "deterministic"),
    (_BACKENDS.mkldnn, "enabled"),
)
_PRECISIONS = (
    _BACKENDS,  # first: the others follow it unless they have a value of their own
    _BACKENDS.cuda.matmul,
    _BACKENDS.cudnn,
    _BACKENDS.cudnn.conv,
    _BACKENDS.cudnn.rnn,
    _BACKENDS.mkldnn,
    _BACKENDS.mkldnn.matmul,
    _BACKENDS.mkldnn.conv,
    _BACKENDS.mkldnn.rnn,
)
_DEVICE_TYPES = ("cpu", "cuda")


@contextmanager
def torch_as_before() -> Iterator[None]:
    """Whatever the body sets, torch computes afterwards as it did before."""
    restores = [hold() for hold in (_settings, _modes, hold_precisions, _autocast, _hooks)]
    try:
        yield
    finally:
        for restore in restores:
            restore()


def _settings() -> Callable[[], None]:
    threads, dtype, device = torch.get_num_threads(), torch.get_default_dtype(), torch.get_default_device()
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    flags = [(owner, name, getattr(owner, name)) for owner, name in _FLAGS]
    flushes = _flushes_denormals()

    def restore() -> None:
        torch.set_num_threads(threads)
        torch.set_default_dtype(dtype)
        if torch.get_default_device() != device:
            torch.set_default_device(None)  # no default costs nothing; one, even "cpu", every call of torch a little
            if torch.get_default_device() != device:
                torch.set_default_device(device)
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
        for owner, name, value in flags:
            setattr(owner, name, value)
        if _flushes_denormals() != flushes:
            torch.set_flush_denormal(flushes)

    return restore


def _flushes_denormals() -> bool:
    """Whether the smallest numbers count as zero, for which torch has a setter alone."""
    denormal = torch.full((1,), 1e-310, dtype=torch.float64, device="cpu")
    return bool((denormal * 0.5).item() == 0)


def _modes() -> Callable[[], None]:
    grad = torch.is_grad_enabled()
    anomaly, check_nan = torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()

    def restore() -> None:
        torch.set_grad_enabled(grad)
        if (torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()) != (anomaly, check_nan):
            torch.autograd.set_detect_anomaly(anomaly, check_nan)

    return restore


def hold_precisions() -> Callable[[], None]:
    """Save the precisions of float32; the result, when called, restores them.

    They have an older and a newer interface, and the older raises once the newer was used.
    """
    held = [(owner, owner.fp32_precision) for owner in _PRECISIONS]
    try:
        older = torch.get_float32_matmul_precision(), _BACKENDS.cudnn.allow_tf32
    except RuntimeError:
        older = None

    def restore() -> None:
        if older is not None:
            torch.set_float32_matmul_precision(older[0])
            _BACKENDS.cudnn.allow_tf32 = older[1]
        for owner, value in held:
            owner.fp32_precision = value

    return restore


def _autocast() -> Callable[[], None]:
    """An autocast that is never left would go on, and keep its copies of weights beyond the step they are good for."""
    enabled = [(kind, torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)) for kind in _DEVICE_TYPES]
    cached, depth = torch.is_autocast_cache_enabled(), _autocast_depth()

    def restore() -> None:
        while _autocast_depth() > depth:
            torch.autocast_decrement_nesting()
        torch.clear_autocast_cache()
        torch.set_autocast_cache_enabled(cached)
        for kind, on, dtype in enabled:
            torch.set_autocast_enabled(kind, on)
            torch.set_autocast_dtype(kind, dtype)

    return restore


def _autocast_depth() -> int:
    torch.autocast_increment_nesting()
    return int(torch.autocast_decrement_nesting())


def _hooks() -> Callable[[], None]:
    """Hooks on every module and every optimizer.

    The handle to remove one is given only to the code that registers it, so this uses torch's own tables; a test
    registers one of each kind and notices where they have moved.
    """
    tables: list[dict[Any, Any]] = [
        value
        for owner in (module, optimizer)
        for name, value in vars(owner).items()
        if name.startswith("_global_") and isinstance(value, dict)
    ]
    held, full = [dict(table) for table in tables], module._global_is_full_backward_hook

    def restore() -> None:
        for table, before in zip(tables, held, strict=True):
            table.clear()
            table.update(before)
        module._global_is_full_backward_hook = full

    return restore
