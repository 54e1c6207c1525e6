"""Addresses: one form for files, results and trials everywhere."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from expflow.errors import AddressUnknown

_TRIAL = re.compile(r"[0-9a-f]{2,12}")


@dataclass(frozen=True)
class FileAddress:
    """An experiment file.

    Attributes:
        path: The file, as written.
    """

    path: Path


@dataclass(frozen=True)
class NameAddress:
    """Results of an experiment.

    Attributes:
        name: The name of the results.
        which: All of them (None), ``best``, or the beginning of a trial's id.
    """

    name: str
    which: str | None = None


@dataclass(frozen=True)
class MlflowAddress:
    """A run in MLflow.

    Attributes:
        run: Its id there.
    """

    run: str


Address = FileAddress | NameAddress | MlflowAddress


def parse_address(text: str) -> Address:
    """What an address means.

    Args:
        text: ``FILE``, which ends in .yaml or .yml, ``NAME``, ``NAME/best``, ``NAME/3fa9`` or ``mlflow:RUN_ID``.

    Raises:
        AddressUnknown: It is none of these.
    """
    if text.startswith("mlflow:"):
        run = text.removeprefix("mlflow:")
        if not run:
            raise AddressUnknown("mlflow: needs the id of a run, as in mlflow:1f0c2a…")
        return MlflowAddress(run)
    if text.endswith((".yaml", ".yml")):
        return FileAddress(Path(text))
    name, slash, which = text.partition("/")
    if not slash and name not in ("", ".", ".."):
        return NameAddress(name)
    if name not in ("", ".", "..") and (which == "best" or _TRIAL.fullmatch(which)):
        return NameAddress(name, which)
    file = Path(f"{text}.yaml")
    is_file = bool(text) and file.is_file()
    if slash and name not in ("", ".", "..") and "/" not in which and not is_file:
        raise AddressUnknown(
            f"{text!r} is no address: behind {name}/ stands `best`, or 2 to 12 characters of a trial's id, which is"
            f" hexadecimal (0-9, a-f); `expflow status {name}` lists the ids"
        )
    hint = f"; did you mean {file}?" if is_file else ""
    raise AddressUnknown(
        f"{text!r} is no address; expected FILE.yaml, NAME, NAME/best, NAME/ and the first characters of a trial's id, "
        f"or mlflow:RUN_ID{hint}"
    )
