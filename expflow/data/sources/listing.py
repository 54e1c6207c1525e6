"""Lists of the images or tars in a folder, of which none is opened. Standard library only: it runs at every start."""

from __future__ import annotations

import errno
import os
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from expflow.data.shards.manifest import FIRST_READING
from expflow.data.shards.passed_over import PassedOver
from expflow.errors import DataInvalid

SPLITS = ("train", "val", "test")
IMAGES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"})
DOCUMENTS = frozenset(
    {".txt", ".csv", ".tsv", ".md", ".rst", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".html", ".htm", ".pdf", ".log"}
    | {".ini", ".db", ".sqlite", ".url", ".lnk", ".torrent", ".py", ".ipynb", ".sh", ".md5", ".sha1", ".sha256", ".doc"}
    | {".docx", ".xls", ".xlsx"}
)
"""Extensions of what people keep beside images. Any other file among them is taken for an image that cannot be read."""
LITTER_FILES = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"})
LITTER_FOLDERS = frozenset(
    {"@eadir", "__macosx", "lost+found", "$recycle.bin", "recycler", "system volume information", "#recycle"}
    | {"#snapshot", "@recycle", "@recently-snapshot", "@tmp", "@sharesnap", "_vti_cnf", "__pycache__", "~snapshot"}
)
"""What operating systems, file servers and archive programs leave behind, in lower case; hidden ones as well."""
COMPRESSED_TAR = re.compile(r"\.(tar\.\w+|tgz|tbz2?|txz|tzst|taz)$", re.IGNORECASE)

READING = 2
"""The number of these rules. The first ones took the folders of file servers for classes and their thumbnails for
samples, and an accent that is written in two ways for two classes: where that differs, the data have another key."""

_SPLIT_WORD = (
    r"(train(ing)?|val(id(ation)?|idate)?|test(ing)?|dev(el(opment)?|test)?|eval(uation)?|h[eo]ldout|minival|trainval)"
)
_SPLIT_FOLDER = re.compile(
    rf"(mini|my|new)?(set|images?|imgs?|data(set)?|split)?{_SPLIT_WORD}(set|images?|imgs?|data(set)?|split|samples)?"
)


@dataclass(frozen=True)
class ListedImage:
    """One file of a class.

    Attributes:
        split: ``train``, ``val`` or ``test``; "" where the folder has no split folders.
        label: name of the class's folder, its accents composed (NFC): file systems differ in how they write them.
        path: path below the listed folder.
        size: in bytes; -1 where it is a link that leads nowhere.
        mtime_ns: time of change in nanoseconds.
    """

    split: str
    label: str
    path: str
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class ImageListing:
    """What lies in a folder of images.

    Attributes:
        images: the files that are taken for images, in the order of their paths.
        passed_over: the files that are not.
        notes: what a user should know of the classes.
        reading: :data:`READING` where the first rules would have read other classes or samples, else the first.
    """

    images: list[ListedImage] = field(default_factory=list)
    passed_over: PassedOver = field(default_factory=PassedOver)
    notes: list[str] = field(default_factory=list)
    reading: int = FIRST_READING

    @property
    def understood(self) -> dict[str, Any]:
        """What a source says of how its files were understood."""
        return {"passed_over": self.passed_over, "notes": tuple(self.notes), "reading": self.reading}


@dataclass(frozen=True)
class TarListing:
    """What lies in a folder of shards.

    Attributes:
        tars: path below the folder (posix), size in bytes and time of change in nanoseconds of each tar.
        compressed: paths of the compressed tars, which cannot be read in place.
        passed_over: all files that are no tars.
    """

    tars: list[tuple[str, int, int]] = field(default_factory=list)
    compressed: list[str] = field(default_factory=list)
    passed_over: PassedOver = field(default_factory=PassedOver)


def names_a_split(name: str) -> bool:
    """Return whether a folder's whole name is that of a part of a data set: ``Val``, ``train_images``, ``holdout``.

    Args:
        name: the folder's name.
    """
    letters = re.sub(r"[^a-z]", "", name.casefold())
    return _SPLIT_FOLDER.fullmatch(letters) is not None


def list_images(root: Path) -> ImageListing:
    """List every file in a folder's class folders, in the order of their names, and what is passed over.

    Args:
        root: the folder.

    Raises:
        DataInvalid: it holds no class folders; what would be taken for a class is none (a split of another name than
            train, val and test, a folder of classes); links lead in a circle; or it cannot be listed.
    """
    try:
        return _ImageFolder(root).listed()
    except OSError as error:
        mend = "remove the link" if error.errno == errno.ELOOP else "correct its permissions"
        raise DataInvalid(f"{error.filename or root}: cannot be listed ({error.strerror}); {mend}") from error


class _ImageFolder:
    """Lists one folder of images."""

    def __init__(self, root: Path) -> None:
        self._root, self._listing = root, ImageListing()
        self._nested: list[str] = []
        self._differs = False

    def listed(self) -> ImageListing:
        """The listing. Raises DataInvalid and OSError."""
        self._list()
        return replace(self._listing, reading=READING if self._differs else FIRST_READING)

    def _list(self) -> None:
        folders = self._folders("")
        if "train" not in folders:
            self._check_no_splits(folders)
            self._list_classes("", folders)
            return
        if unknown := [name for name in folders if name not in SPLITS]:
            raise DataInvalid(
                f"{self._root}: beside train/ only val/ and test/ are read, not {', '.join(unknown)}; rename or move it"
            )
        for split in folders:
            self._list_classes(split, self._folders(split))

    def _check_no_splits(self, folders: list[str]) -> None:
        """Refuse what looks like splits, where the folders would be taken for classes."""
        if splits := [name for name in folders if names_a_split(name)]:
            raise DataInvalid(
                f"{self._root}: {', '.join(splits)} would be taken for classes, and look like parts of a data set; the"
                " parts are named train, val and test, in lower case, and train must be there. Classes of such names"
                " are read inside of train/"
            )

    def _folders(self, place: str) -> list[str]:
        """The folders in ``place`` that may be splits or classes; everything else in it is passed over."""
        folders = []
        for entry in sorted(os.scandir(self._root / place), key=lambda entry: entry.name):
            if not self._is_litter(entry):
                if entry.is_dir():
                    folders.append(entry.name)
                else:
                    self._listing.passed_over.add("files that lie in no class's folder", self._relative(entry))
        return folders

    def _list_classes(self, split: str, folders: list[str]) -> None:
        if not folders:
            raise DataInvalid(
                f"{self._root / split}: no folders in it; each class needs a folder of its own with its images"
            )
        if len(folders) == 1:
            self._check_level(f"{split}/{folders[0]}".lstrip("/"))
        for name in folders:
            self._list_class(split, name)
        if self._nested:
            more = f" and {len(self._nested) - 3} more" if len(self._nested) > 3 else ""
            self._listing.notes.append(
                f"classes whose images lie in folders inside of them, all of which are one class:"
                f" {', '.join(self._nested[:3])}{more}"
            )
            self._nested = []

    def _check_level(self, place: str) -> None:
        """Refuse an only class that holds nothing but folders: the path is one level too high."""
        entries = [entry for entry in os.scandir(self._root / place) if not litter_reason(entry)]
        inner = sorted(entry.name for entry in entries if entry.is_dir())
        if len(inner) > 1 and not any(Path(entry.name).suffix.lower() in IMAGES for entry in entries):
            raise DataInvalid(
                f"{self._root}: {place} would be the only class, and holds no images but the folders"
                f" {', '.join(inner[:5])}; name the folder whose folders are the classes, such as {self._root / place}"
            )

    def _list_class(self, split: str, name: str) -> None:
        folder = self._root / split / name
        before = sum(self._listing.passed_over.counts.values())
        files = sorted(self._files(folder, {_identity(folder.stat())}), key=lambda entry: entry.path)
        label = unicodedata.normalize("NFC", name)
        self._differs |= label != name
        for entry in files:
            self._listing.images.append(ListedImage(split, label, self._relative(entry), *_stamp(entry)))
        if not files and split in ("", "train"):
            others = sum(self._listing.passed_over.counts.values()) - before
            rest = f" ({others} other files lie in it)" if others else ""
            raise DataInvalid(f"{folder}: a class without images{rest}; put some there or remove the folder")
        inner = {Path(entry.path).relative_to(folder).parts[0] for entry in files}
        if len(inner) > 1 and all(Path(entry.path).parent != folder for entry in files):
            self._nested.append(f"{split}/{name} ({', '.join(sorted(inner)[:3])})".lstrip("/"))

    def _files(self, folder: Path, above: set[tuple[int, int]]) -> Iterator[os.DirEntry[str]]:
        """The images in a folder and below. ``above`` are the folders that it lies in, and itself."""
        with os.scandir(folder) as entries:
            for entry in entries:
                if self._is_litter(entry):
                    continue
                if not entry.is_dir():
                    if Path(entry.name).suffix.lower() in DOCUMENTS:
                        self._listing.passed_over.add("documents among the images", self._relative(entry))
                    else:
                        yield entry
                    continue
                self._check_inner(entry, above)
                yield from self._files(Path(entry.path), {*above, _identity(entry.stat())})

    def _check_inner(self, entry: os.DirEntry[str], above: set[tuple[int, int]]) -> None:
        """Refuse a folder below a class that leads in a circle or is a split."""
        place = self._relative(entry)
        if _identity(entry.stat()) in {*above, _identity(self._root.stat())}:
            raise DataInvalid(f"{self._root}: the link {place} leads back to a folder that it lies in; remove it")
        if names_a_split(entry.name):
            above_it = Path(place).parent.as_posix()
            raise DataInvalid(
                f"{self._root}: {place} looks like a part of a data set, and lies in {above_it}, which would be taken"
                f" for a class; splits are the uppermost folders. Name the folder {self._root / above_it}, or move"
                f" {entry.name}"
            )

    def _is_litter(self, entry: os.DirEntry[str]) -> bool:
        """Whether an entry is passed over as litter, which is then counted."""
        if not (reason := litter_reason(entry)):
            return False
        is_folder = entry.is_dir(follow_symlinks=False)
        count = sum(len(files) for _, _, files in os.walk(entry.path)) if is_folder else 1
        self._differs |= count > 0 and entry.is_dir() and not entry.name.startswith(".")
        if count:
            self._listing.passed_over.add(reason, self._relative(entry) + "/" * is_folder, count)
        return True

    def _relative(self, entry: os.DirEntry[str]) -> str:
        return Path(entry.path).relative_to(self._root).as_posix()


def litter_reason(entry: os.DirEntry[str] | Path) -> str:
    """Return why a file or folder is passed over whatever it holds; "" where it is not.

    Args:
        entry: the file or folder; its name alone is looked at.
    """
    name = entry.name.lower()
    if name in LITTER_FOLDERS or name in LITTER_FILES:
        return "files that systems and file servers leave behind"
    return "hidden files" if name.startswith(".") else ""


def _identity(stat: os.stat_result) -> tuple[int, int]:
    return stat.st_dev, stat.st_ino


def _stamp(entry: os.DirEntry[str]) -> tuple[int, int]:
    """Size and time of change; a link that leads nowhere is listed all the same, and named when it is to be read."""
    try:
        stat = entry.stat()
    except OSError:
        return -1, 0
    return stat.st_size, stat.st_mtime_ns


def list_tars(root: Path) -> TarListing:
    """List every tar below a folder, in the order of their paths, and what is passed over.

    Args:
        root: the folder.
    """
    listing = TarListing()
    for folder, folders, files in os.walk(root):
        folders.sort()
        for name in sorted(files):
            path = Path(folder) / name
            relative = path.relative_to(root)
            if any(part.startswith(".") or part.lower() in LITTER_FOLDERS for part in relative.parts):
                listing.passed_over.add("hidden files and what systems leave behind", relative.as_posix())
            elif name.endswith(".tar"):
                stat = path.stat()
                listing.tars.append((relative.as_posix(), stat.st_size, stat.st_mtime_ns))
            elif COMPRESSED_TAR.search(name):
                listing.compressed.append(relative.as_posix())
                listing.passed_over.add("compressed tars", relative.as_posix())
            else:
                listing.passed_over.add("files that are no tars", relative.as_posix())
    listing.tars.sort()
    return listing
