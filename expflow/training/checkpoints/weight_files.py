"""What a file of weights is, found out before torch reads it: of which kind, whether whole, and how large unpacked.

Bounds: a pickle has at most :data:`PICKLE_BYTES`, and as many operations and levels as
:mod:`~expflow.training.checkpoints.pickle_inspection` says; all of it unpacked takes at most :data:`MOST_GROWTH` times
the file's bytes; every tensor lies within the bytes of its storage. So reading takes memory in proportion to the file.
"""

from __future__ import annotations

import io
import zipfile
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO

from expflow.errors import CheckpointDamaged, CheckpointUnsafe
from expflow.files import open_regular
from expflow.training.checkpoints.pickle_inspection import (
    PickleContent,
    PickleRefused,
    inspect_pickle,
)

PICKLE_BYTES = 64 * 2**20
"""Most bytes of the pickle that says which tensors there are; their numbers lie outside of it."""
MOST_GROWTH = 4
"""Times its size that a file may grow when it is unpacked: torch does not compress, and weights hardly shrink."""
MOST_MEMBERS = 1_000_000
_SLACK = 16 * 2**20
_HEAD = 512
_NAMES_SHOWN = 8

_OTHER_KINDS: Sequence[tuple[bytes, str]] = (
    (b"\x89HDF", "it is a file of HDF5 (Keras)"),
    (b"\x93NUMPY", "it is an array of numpy"),
    (b"\x1f\x8b", "it is compressed with gzip: unpack it first"),
    (b"BZh", "it is compressed with bzip2: unpack it first"),
    (b"\xfd7zXZ", "it is compressed with xz: unpack it first"),
    (b"\x28\xb5\x2f\xfd", "it is compressed with zstd: unpack it first"),
    (b"version https://git-lfs", "it is a pointer of Git LFS and not the file itself: git lfs pull"),
    (b"<!doctype html", "it is a web page: what was to be fetched is something else"),
    (b"<html", "it is a web page: what was to be fetched is something else"),
    (b"\x7fELF", "it is a program"),
    (b"\xff\xd8\xff", "it is an image"),
    (b"\x89PNG", "it is an image"),
    (b"GGUF", "it is a file of GGUF"),
)

_LEGACY_PICKLES = 4
"""In files of torch before 1.6: a number that marks them, a version, the machine, the weights; then their storages."""


def check_weight_file(path: Path, allow: Iterable[str] = ()) -> None:
    """Refuse what is no whole file of tensors and plain data. Nothing in it is run.

    Args:
        path: The file.
        allow: Classes (``package.module:Name``) that it may hold besides.

    Raises:
        CheckpointUnsafe: It asks for other classes or functions; the message names them.
        CheckpointDamaged: It is something else, a part of a file, or larger than its bytes; the message says which.
    """
    try:
        with open_regular(path) as file:
            contents = _pickles(file, tuple(allow))
    except (PickleRefused, OSError) as error:
        reason = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
        raise CheckpointDamaged(f"{path} does not read: {reason}") from error
    if names := sorted({name for content in contents for name in content.unsafe_names(allow)}):
        shown = ", ".join(names[:_NAMES_SHOWN]) + f" and {len(names) - _NAMES_SHOWN} more" * (len(names) > _NAMES_SHOWN)
        raise CheckpointUnsafe(
            f"{path} asks for {shown}, which is no tensor and no plain data: it was not read. Save the state_dict() of"
            " its network to a file of its own, or name under trainer.checkpoint.allow what you trust"
        )
    if problem := next((content.problem for content in contents if content.problem), ""):
        raise CheckpointDamaged(
            f"{path} does not read: {problem}; expected is what torch.save(state_dict, file) writes"
        )


def _pickles(file: BinaryIO, allow: tuple[str, ...]) -> list[PickleContent]:
    """What the pickles in a file would do. Raises PickleRefused and OSError."""
    head = file.read(_HEAD)
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    if not head:
        raise PickleRefused("it is empty")
    if head.startswith(b"PK"):
        return [_in_archive(file, size, allow)]
    if head[257:262] == b"ustar":
        raise PickleRefused("it is a tar: weights of torch before 0.4, or no weights. Save them with a newer torch")
    start = head.lstrip().lower()[:64]
    for mark, kind in _OTHER_KINDS:
        if head.startswith(mark) or start.startswith(mark.lower()):
            raise PickleRefused(f"{kind}; expected is a file of torch.save")
    if head[8:10] in (b'{"', b"{ ", b"{}"):
        raise PickleRefused(
            "it is a file of safetensors; expected is one of torch.save: torch.save(safetensors.torch.load_file(…), …)"
        )
    if head.startswith(b"\x80"):
        return _legacy(file, size, allow)
    old = inspect_pickle(io.BytesIO(file.read(PICKLE_BYTES)), allow)  # the first two protocols begin without a mark
    if old.whole and old.names:
        return [old]
    raise PickleRefused("it is no file of torch.save, or a part of one")


def _in_archive(file: BinaryIO, size: int, allow: tuple[str, ...]) -> PickleContent:
    """What the pickle in a zip file of torch.save would do."""
    try:
        with zipfile.ZipFile(file) as archive:
            members = {entry.filename: entry.file_size for entry in _entries(archive, size)}
            name = _pickle_member(list(members))
            if members[name] > PICKLE_BYTES:
                raise PickleRefused(f"its pickle has {members[name]:,} bytes, more than {PICKLE_BYTES:,}")
            content = inspect_pickle(io.BytesIO(archive.read(name)), allow)
    except (PickleRefused, OSError):
        raise
    except zipfile.BadZipFile as error:
        raise PickleRefused(f"it is a part of a zip file, or a damaged one ({error})") from error
    except Exception as error:  # zipfile raises all sorts at broken input
        raise PickleRefused("it is a damaged zip file") from error
    if not (content.problem or content.unsafe_names(allow)):
        _check_storages(content, members, name.removesuffix("data.pkl"))
    return content


def _entries(archive: zipfile.ZipFile, size: int) -> list[zipfile.ZipInfo]:
    entries = archive.infolist()
    unpacked = sum(entry.file_size for entry in entries)
    if unpacked > MOST_GROWTH * size + _SLACK or len(entries) > MOST_MEMBERS:
        raise PickleRefused(
            f"its {size:,} bytes would unpack to {unpacked:,} in {len(entries):,} files, which no weights do"
        )
    twice = [name for name, count in Counter(entry.filename.lower() for entry in entries).items() if count > 1]
    if twice:
        raise PickleRefused(f"it holds {twice[0][:100]!a} twice")
    return entries


def _pickle_member(names: Sequence[str]) -> str:
    """The name of the pickle in an archive of torch.save."""
    last_parts = {name.rpartition("/")[2] for name in names}
    if "constants.pkl" in last_parts:
        raise PickleRefused(
            "it is a program of TorchScript and not weights alone; where it can be trusted, save its weights with"
            " torch.save(torch.jit.load(file).state_dict(), …)"
        )
    pickles = [name for name in names if name.rpartition("/")[2] == "data.pkl"]
    if len(pickles) != 1:
        arrays = "; it holds arrays of numpy" if any(name.endswith(".npy") for name in names) else ""
        raise PickleRefused(f"it is a zip file with {len(pickles) or 'no'} data.pkl, so none of torch.save{arrays}")
    return pickles[0]


def _check_storages(content: PickleContent, members: dict[str, int], folder: str) -> None:
    """Raise unless the archive holds the bytes of every storage."""
    for key, needed in content.storages.items():
        there, shown = members.get(f"{folder}data/{key}"), f"data/{key}"[:100]
        if there is None:
            raise PickleRefused(f"the numbers of a tensor are missing in it ({shown!a})")
        if there < needed:
            raise PickleRefused(f"a tensor needs {needed:,} bytes, and {shown!a} in it has {there:,}")


def _legacy(file: BinaryIO, size: int, allow: tuple[str, ...]) -> list[PickleContent]:
    """What the pickles of a file of torch before 1.6 would do, or the one of another program."""
    stream = io.BytesIO(file.read(PICKLE_BYTES))
    contents = [inspect_pickle(stream, allow)]
    if contents[0].names or contents[0].problem:  # torch's begin with a mere number
        return contents
    for _ in range(_LEGACY_PICKLES):
        contents.append(inspect_pickle(stream, allow))
        if contents[-1].problem:
            return contents
    needed = sum(sum(content.storages.values()) for content in contents)
    if needed > size:
        raise PickleRefused(
            f"its tensors need {needed:,} bytes, and it has {size:,}: it is a part of a file, or damaged"
        )
    return contents
