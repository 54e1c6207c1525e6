"""Importing a module of the user's: where it exits or reads the command line, that is named and ends nothing else."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from expflow.lightning_alias import unify_lightning
from expflow.torchmetrics_imports import hold_back_imports

ADVICE = 'put what only a script does under `if __name__ == "__main__":`'


class ModuleExits(Exception):
    """A module ended the process, or read its command line, while it was imported; the message says which."""


class _ArgumentsParsed(SystemExit):
    """A module reads the command line. It is an exit, as argparse's own answer to arguments of somebody else's is."""


def import_user_module(name: str) -> ModuleType:
    """Import a module of the user's.

    Args:
        name: Its dotted name.

    Raises:
        ModuleExits: It exits, or parses the process's arguments, which are expflow's and not its own.
        Exception: Whatever else the module raises.
    """
    unify_lightning()
    hold_back_imports()
    try:
        with _exits_raised(), _argument_parsing_refused():
            return importlib.import_module(name)
    except _ArgumentsParsed as error:
        raise ModuleExits(
            f"{name} parses command-line arguments when it is imported; here these are expflow's: {ADVICE}"
        ) from error
    except SystemExit as error:
        code = "" if error.code is None else f" ({error.code})"
        raise ModuleExits(f"{name} exits when it is imported{code}: {ADVICE}") from error


@contextmanager
def _exits_raised() -> Iterator[None]:
    """In the body ``os._exit`` is an exception in this process; in a process that the body forks it exits."""
    process, leave = os.getpid(), os._exit

    def exit_or_raise(status: int) -> NoReturn:
        if os.getpid() == process:
            raise SystemExit(status)
        leave(status)

    os._exit = exit_or_raise
    try:
        yield
    finally:
        os._exit = leave


@contextmanager
def _argument_parsing_refused() -> Iterator[None]:
    """In the body argparse refuses to read the process's arguments for code that is no installed package's."""
    parse = argparse.ArgumentParser.parse_known_args

    def parse_given(parser: argparse.ArgumentParser, args: Any = None, namespace: Any = None) -> Any:
        if args is None and _asked_by_user():
            raise _ArgumentsParsed
        return parse(parser, args, namespace)

    argparse.ArgumentParser.parse_known_args = parse_given  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        argparse.ArgumentParser.parse_known_args = parse  # type: ignore[method-assign]


def _asked_by_user() -> bool:
    """Whether the code that called argparse lies in a file of the user's."""
    frame: Any = sys._getframe(2)
    while frame is not None and Path(frame.f_code.co_filename).name == "argparse.py":
        frame = frame.f_back
    return frame is not None and is_users_file(Path(frame.f_code.co_filename).resolve())


_NOT_OF_USER = frozenset({"site-packages", "dist-packages", ".venv", "lib-dynload"})
"""Folders whose files are installed packages."""


def is_users_file(file: Path) -> bool:
    """Whether a file is neither expflow's, nor an installed package's, nor Python's own.

    Args:
        file: Its resolved path.
    """
    package, standard_library = Path(__file__).resolve().parents[1], Path(sys.base_prefix).resolve() / "lib"
    return not _NOT_OF_USER.intersection(file.parts) and not any(
        file.is_relative_to(folder) for folder in (package, standard_library)
    )
