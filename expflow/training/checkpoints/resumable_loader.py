"""Training loaders by which a training can be saved and continued exactly."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pytorch_lightning.utilities import CombinedLoader

POSITIONED = ("state_dict", "load_state_dict", "__len__")
"""What a loader must have for a training to be saved within an epoch."""


def resumable_loader(loader: Any, between_batches: Callable[[], None]) -> Any:
    """A loader so that a training on it can be saved.

    One with a position calls ``between_batches`` before each batch. Several loaders in a mapping or a list are wrapped
    one by one, and the training is saved between epochs alone.

    Args:
        loader: A loader, or several in a mapping, a list or a CombinedLoader.
        between_batches: Called before each batch.
    """
    if isinstance(loader, Mapping):
        return {name: LazyLoader(part) for name, part in loader.items()}
    if isinstance(loader, list | tuple):
        return type(loader)(LazyLoader(part) for part in loader)
    if isinstance(loader, CombinedLoader):
        return loader
    positioned = all(hasattr(loader, name) for name in POSITIONED)
    return PositionedLoader(loader, between_batches) if positioned else LazyLoader(loader)


class LazyLoader:
    """A loader that begins when its first batch is asked for, and not when Lightning prepares for that.

    What it draws on beginning (a torch DataLoader, the order of the epoch) then comes after the random state was put
    back. All attributes are those of the loader itself.

    Args:
        loader: Any loader.
    """

    _loader: Any

    def __init__(self, loader: Any) -> None:
        object.__setattr__(self, "_loader", loader)

    def __iter__(self) -> Iterator[Any]:
        yield from self._loader

    def __len__(self) -> int:
        return len(self._loader)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._loader, name, value)  # so Lightning ends a loader's workers


class PositionedLoader(LazyLoader):
    """A loader that knows its position, with a call before each of its batches.

    Args:
        loader: A loader that has what :data:`POSITIONED` names.
        between_batches: Called before each batch.
    """

    _between_batches: Callable[[], None]

    def __init__(self, loader: Any, between_batches: Callable[[], None]) -> None:
        super().__init__(loader)
        object.__setattr__(self, "_between_batches", between_batches)

    def __iter__(self) -> Iterator[Any]:
        batches = iter(self._loader)
        while True:
            self._between_batches()
            try:
                batch = next(batches)
            except StopIteration:
                return
            yield batch
