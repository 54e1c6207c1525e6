"""Where all results lie: a folder, or an address with a working folder in front of it."""

from __future__ import annotations

import re
from pathlib import Path

from expflow.config import load_site
from expflow.config.address import Address, parse_address
from expflow.config.site import Site
from expflow.storage.blob_store import is_address
from expflow.storage.results import StoredResults
from expflow.text import command_line, relative


def storage_folder(storage: Path | str | None = None, site: Site | None = None) -> Path:
    """The folder of all results on this machine; of an address, its working folder. Nothing is fetched.

    Args:
        storage: The folder or address that was asked for; by default the site's.
        site: What differs between machines; by default it is read.
    """
    site = site or load_site()
    text = str(storage or site.storage)
    return StoredResults.at(text, site.cache).root if is_address(text) else Path(text).absolute()


def storage_text(folder: Path) -> str:
    """What a user writes for a folder of all results: the folder, or the address that it stands for.

    Args:
        folder: The folder of all results.
    """
    stored = StoredResults.of(folder)
    return str(folder) if stored is None else stored.address


def storage_words(folder: Path) -> list[str]:
    """What a command needs besides a name to find results: ``--storage`` and its value, unless the site says the same.

    Args:
        folder: The folder of all results.
    """
    if folder == storage_folder():
        return []
    written = storage_text(folder)
    return ["--storage", relative(folder) if written == str(folder) else written]


def results_command(folder: Path, verb: str, *options: str, which: str = "") -> str:
    """A command about some results to be typed, with the place of the results where the site names another.

    Args:
        folder: The experiment's folder.
        verb: The command, such as ``show``.
        options: Options with their values.
        which: A trial's id or its beginning, or ``best``; "" for the whole experiment.
    """
    operand = f"{folder.name}/{which}" if which else folder.name
    return command_line(verb, operand, *options, *storage_words(folder.parent))


def fetch_related(folder: Path, name: str) -> None:
    """Bring the working folders of all results of one experiment up to the store; nothing for plain folders.

    Args:
        folder: The folder of all results.
        name: The name of some results of the experiment.
    """
    if (stored := StoredResults.of(folder)) is not None:
        for other in stored.names():
            if name_stem(other) == name_stem(name):
                stored.fetch(other)


def fetch_all(folder: Path) -> None:
    """Bring all working folders up to the store; nothing for plain folders.

    Args:
        folder: The folder of all results.
    """
    if (stored := StoredResults.of(folder)) is not None:
        stored.fetch_all()


def fetch_whole(folder: Path, name: str) -> bool:
    """Bring an experiment's working folder up to the store, trials and checkpoints included.

    Args:
        folder: The folder of all results.
        name: The experiment's name.

    Returns:
        Whether results lie at an address; nothing is done for plain folders.
    """
    if (stored := StoredResults.of(folder)) is None:
        return False
    stored.fetch_whole(name)
    return True


def split_result_address(text: str) -> tuple[str, str]:
    """The address of all results, and ``NAME`` or ``NAME/…``, of the address of some results.

    Args:
        text: ``s3://bucket/path/NAME``, with ``/best`` or the beginning of a trial's id behind it or without.
    """
    root, _, last = text.rstrip("/").rpartition("/")
    if re.fullmatch(r"best|[0-9a-f]{2,12}", last):
        above, _, name = root.rpartition("/")
        results = StoredResults.at(root, load_site().cache) if not above.endswith(":/") else None
        if results is None or not results.has(last):
            return above, f"{name}/{last}"
    return root, last


def parse_result_address(text: str) -> Address:
    """What an address means that may begin with that of a store: of the latter, what stands behind it.

    Args:
        text: As of :func:`~expflow.config.address.parse_address`, or ``s3://bucket/path/NAME/best`` and the like.

    Raises:
        AddressUnknown: It is none of these.
    """
    return parse_address(split_result_address(text)[1] if is_address(text) else text)


def name_stem(name: str) -> str:
    """``digits`` of ``digits``, ``digits.2``, ``digits+train`` and ``digits+optimizer.lr=0.1.3``.

    Args:
        name: The name of some results.
    """
    return re.sub(r"\.\d+$", "", name.partition("+")[0])
