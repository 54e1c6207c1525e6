"""Masks that are read without Pillow are those that Pillow reads; what Pillow refuses stays refused."""

from __future__ import annotations

import io
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from PIL import Image

from expflow.data.decode import plain_png
from expflow.data.decode.errors import Undecodable
from expflow.data.decode.plain_png import decode_plain_png, encode_plain_png
from expflow.data.kinds.mask import decode_mask

MASK = np.repeat(np.arange(12, dtype=np.uint8), 40).reshape(24, 20)
Mask = NDArray[np.uint8]


def saved(mask: Mask, mode: str = "L", **options: Any) -> bytes:
    """As Pillow writes it: greys with a filter for each row, places in a palette without."""
    image = Image.fromarray(mask) if mode == "L" else Image.frombytes("P", mask.shape[::-1], mask.tobytes())
    if mode == "P":
        image.putpalette([number * 3 % 256 for number in range(768)])
    file = io.BytesIO()
    image.save(file, "PNG", **options)
    return file.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")


def file_of(body: bytes, *, parts: int = 1, form: bytes = b"\x08\x00\x00\x00\x00") -> bytes:
    """A PNG that says 20 x 24 pixels, whatever ``body`` holds, its data in several chunks."""
    header = chunk(b"IHDR", (20).to_bytes(4, "big") + (24).to_bytes(4, "big") + form)
    size = -(-len(body) // parts)
    data = b"".join(chunk(b"IDAT", body[first : first + size]) for first in range(0, len(body), size))
    return b"\x89PNG\r\n\x1a\n" + header + data + chunk(b"IEND", b"")


def rows_of(mask: Mask, filtered: int = 0) -> bytes:
    return np.concatenate([np.full((len(mask), 1), filtered, np.uint8), mask], 1).tobytes()


@given(arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40))))
def test_what_is_written_is_read_by_pillow_and_by_us(mask: Mask) -> None:
    content = encode_plain_png(mask)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(content))), mask)
    plain = decode_plain_png(memoryview(content))
    assert plain is not None
    assert np.array_equal(plain, mask)


@pytest.mark.parametrize("inflating", [plain_png.inflating, zlib])
@pytest.mark.parametrize("mode", ["L", "P"])
def test_files_of_users_are_read_as_pillow_reads_them(
    mode: str, inflating: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plain_png, "inflating", inflating)
    content = saved(MASK, mode)
    assert (decode_plain_png(content) is None) == (mode == "L"), "rows of greys are filtered"
    assert np.array_equal(decode_mask(content), MASK)
    assert np.array_equal(decode_mask(file_of(zlib.compress(rows_of(MASK)), parts=3)), MASK)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x89PNG\r\n\x1a\n",
        saved(MASK, "P", bits=4),
        file_of(zlib.compress(rows_of(MASK, filtered=2))),
        file_of(zlib.compress(rows_of(MASK[:-1]))),
        file_of(zlib.compress(rows_of(MASK) * 1000)),
        file_of(zlib.compress(rows_of(MASK))[:-4]),
        file_of(zlib.compress(rows_of(MASK)), form=b"\x08\x02\x00\x00\x00"),
        file_of(zlib.compress(rows_of(MASK)), form=b"\x08\x00\x00\x00\x01"),
        saved(MASK, "P", save_all=True, append_images=[Image.fromarray(MASK)]),
    ],
)
def test_other_files_are_left_to_pillow(content: bytes) -> None:
    assert decode_plain_png(content) is None


def test_a_damaged_file_is_refused_wherever_a_bit_is_wrong_or_it_ends() -> None:
    content = encode_plain_png(MASK)
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= 0x10
        assert decode_plain_png(bytes(changed)) is None, place
        assert decode_plain_png(content[:place]) is None, place
    with pytest.raises(Undecodable):
        decode_mask(content[:-30])


def test_a_header_that_claims_a_huge_mask_is_refused() -> None:
    header = chunk(b"IHDR", (2**31 - 1).to_bytes(4, "big") * 2 + b"\x08\x00\x00\x00\x00")
    with pytest.raises(Undecodable, match="claims"):
        decode_plain_png(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IEND", b""))


def test_greys_in_shards_of_earlier_versions_stay_readable() -> None:
    """Those were written with filters."""
    assert np.array_equal(decode_mask(memoryview(saved(MASK))), MASK)
