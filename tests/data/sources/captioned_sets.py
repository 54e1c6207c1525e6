"""Small sources with texts: captions beside stamps, and an archive like that of the emoji."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from expflow.data.caption_specs import EMOJI_CATEGORIES
from expflow.data.sources import emoji
from tests.data.sources.labelled_sets import stamp_pngs


def write_captions(root: Path, count: int) -> None:
    """Beside each stamp its captions, as Tux Paint writes them."""
    for number, name in enumerate(stamp_pngs(count)):
        lines = [f"A thing {number % 9}.", "af.utf8=Iets.", f"de.utf8=Ein Ding {number}.", "de_AT.utf8=No."]
        (root / "stamps" / name).with_suffix(".txt").write_text("\n".join(lines), encoding="utf-8")


def write_emoji(folder: Path, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """An archive with small pictures under the names of the real one."""
    folder.mkdir(parents=True)
    path = folder / emoji.ARCHIVE.file
    with tarfile.open(path, "w:gz") as archive:

        def add(name: str, content: bytes) -> None:
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))

        listed = []
        for number in range(count):
            picture = io.BytesIO()
            Image.new("RGBA", (64, 64), (8 * number, 200, 30, 255)).save(picture, "PNG")
            add(f"img/google/64/{number}.png", picture.getvalue())
            category = EMOJI_CATEGORIES[number % 3] if number else "Component"
            listed.append({"image": f"{number}.png", "name": f"SIGN {number}", "category": category})
        add("emoji.json", json.dumps(listed).encode())
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(emoji, "ARCHIVE", replace(emoji.ARCHIVE, sha256=sha256))
