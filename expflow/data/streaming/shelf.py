"""The shards of the window in use and of the next: opened by threads of their own, held until no batch needs them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from typing import Generic, TypeVar

from expflow.data.streaming.ahead import LOOK_SECONDS, Flag, Stopped
from expflow.data.streaming.crew import Crew

Opened = TypeVar("Opened")


class _Place(Generic[Opened]):
    """One shard: on its way, there, failed, or given back."""

    def __init__(self) -> None:
        self.ready, self.lock, self.stack = threading.Event(), threading.Lock(), ExitStack()
        self.opened: Opened | None = None
        self.error: BaseException | None = None
        self.dropped = False


class Shelf(Generic[Opened]):
    """Holds shards by number. ``hold`` opens one, ``crew`` runs that, ``flag`` says that nothing is wanted any more."""

    def __init__(self, hold: Callable[[int], AbstractContextManager[Opened]], crew: Crew, flag: Flag) -> None:
        self._hold, self._crew, self._flag = hold, crew, flag
        self._places: dict[int, _Place[Opened]] = {}

    def want(self, numbers: Iterable[int]) -> None:
        """Begin to open what is not there yet, in this order."""
        for number in numbers:
            if number not in self._places:
                place = self._places[number] = _Place()
                self._crew.submit(partial(self._open, number, place))

    def get(self, number: int) -> Opened:
        """A shard that was wanted, as soon as it is there. Raises what opening it raised."""
        place = self._places[number]
        while not place.ready.wait(LOOK_SECONDS):
            if self._flag.raised:
                raise Stopped
        if place.opened is None:
            raise place.error or Stopped
        return place.opened

    def drop(self, numbers: Iterable[int]) -> None:
        """Give shards back. Nobody may be reading them."""
        for number in numbers:
            if (place := self._places.pop(number, None)) is not None:
                _drop(place)

    def close(self) -> None:
        """Give everything back."""
        self.drop(list(self._places))

    def _open(self, number: int, place: _Place[Opened]) -> None:
        try:
            if not self._flag.raised and not place.dropped:
                place.opened = place.stack.enter_context(self._hold(number))
        except BaseException as error:  # noqa: BLE001 - it is raised where the shard is read
            place.error = error
        place.ready.set()
        if place.dropped:
            _drop(place)


def _drop(place: _Place[Opened]) -> None:
    """Give one shard back: now, or when opening it ends."""
    place.dropped = True
    if place.ready.is_set():
        with place.lock:
            place.opened = None
            place.stack.close()
