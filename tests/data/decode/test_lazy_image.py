"""A part that is decoded alone has the pixels that the whole image has there."""

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from expflow.data.decode import MOST_PIXELS, Undecodable
from expflow.data.decode.jpeg_decoder import decode_region
from expflow.data.decode.jpeg_header import read_jpeg_header
from expflow.data.decode.lazy_image import open_image
from expflow.data.decode.pillow_decoder import decode_with_pillow
from tests.data.photographs import KINDS, jpeg, noise, photograph, saved


def region_of(content, region, channels=3, reduction=1):
    return open_image(memoryview(content), channels).region(region, reduction).copy()


@st.composite
def boxes(draw, height=213, width=320):
    top, left = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
    return top, left, draw(st.integers(1, height - top)), draw(st.integers(1, width - left))


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40, deadline=None)
@given(box=boxes())
def test_a_part_has_the_pixels_of_the_whole(kind, box):
    top, left, height, width = box
    pixels = region_of(jpeg(kind), box)
    assert np.array_equal(pixels, decode_with_pillow(jpeg(kind), 3)[top : top + height, left : left + width])


@pytest.mark.parametrize("kind", [*list(KINDS)[:7], "grey, every 4 units"])
def test_it_is_the_fast_way_that_has_them(kind):
    """The strict decoder alone, without Pillow behind it: notices if libjpeg words its complaints in another way."""
    content = memoryview(jpeg(kind))
    pixels = decode_region(content, read_jpeg_header(content), (20, 40, 60, 90), channels=3)
    assert np.array_equal(pixels, decode_with_pillow(content, 3)[20:80, 40:130])


def test_only_what_the_part_needs_is_read():
    """Restart intervals outside of the part may hold anything."""
    spoiled = bytearray(jpeg("every 2 units"))
    spoiled[-400:-2] = bytes(398)
    assert np.array_equal(region_of(spoiled, (0, 0, 50, 50)), decode_with_pillow(jpeg("every 2 units"), 3)[:50, :50])


@pytest.mark.parametrize("size", [(16, 16), (17, 33), (8, 8), (1, 1), (3, 200), (320, 1)])
def test_images_that_are_smaller_than_a_unit_or_end_inside_of_one(size):
    content = saved(Image.fromarray(noise(size[1], size[0])), "JPEG", quality=80)
    assert np.array_equal(region_of(content, (0, 0, size[1], size[0])), decode_with_pillow(content, 3))


@pytest.mark.parametrize("reduction", [2, 4, 8])
def test_a_reduced_part_is_as_large_as_its_pixels_make_it(reduction):
    pixels = region_of(jpeg(size=(640, 426)), (64, 32, 200, 320), reduction=reduction)
    plain = photograph(size=(640, 426)).crop((32, 64, 352, 264)).reduce(reduction)
    assert pixels.shape[:2] == (200 // reduction, 320 // reduction)
    assert np.abs(pixels.astype(int) - np.asarray(plain)).mean() < 4


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "LA", "1", "I;16"])
def test_other_formats_go_the_plain_way(mode):
    image = Image.fromarray((noise(20, 30, 1)[:, :, 0].astype(np.uint16) << 8) + 3) if mode == "I;16" else None
    content = saved(image or photograph(size=(30, 20)).convert(mode), "PNG")
    for channels in (1, 3):
        pixels = region_of(content, (4, 5, 10, 11), channels)
        assert pixels.shape == (10, 11, channels)
        assert np.array_equal(pixels, decode_with_pillow(content, channels)[4:14, 5:16])


def test_sixteen_bits_are_shifted_not_clipped():
    values = np.arange(0, 65536, 1024, dtype=np.uint16).reshape(8, 8)
    assert np.array_equal(decode_with_pillow(saved(Image.fromarray(values), "PNG"))[:, :, 0], values >> 8)


def test_cmyk_is_converted_as_pillow_does():
    image = photograph(size=(64, 48)).convert("CMYK")
    content = saved(image, "JPEG", quality=95)
    assert np.array_equal(region_of(content, (8, 8, 16, 16)), decode_with_pillow(content, 3)[8:24, 8:24])


def test_a_grey_value_of_colours_is_their_brightness():
    pixels = region_of(jpeg(), (0, 0, 213, 320), channels=1).astype(int)
    differences = np.abs(pixels - decode_with_pillow(jpeg(), 1))
    assert differences.mean() < 0.5  # Pillow goes by red, green and blue, each cut off at 0 and 255
    assert np.percentile(differences, 99) <= 3


def test_what_exif_says_about_directions_is_left_alone():
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = saved(photograph(), "JPEG", quality=90, exif=exif)
    assert open_image(memoryview(turned), 3).size == (213, 320)


def test_bytes_behind_the_end_do_no_harm():
    pixels = region_of(jpeg() + b"thumbnail", (10, 10, 20, 20))
    assert np.array_equal(pixels, decode_with_pillow(jpeg(), 3)[10:30, 10:30])


def damaged():
    whole, header = jpeg(), read_jpeg_header(jpeg())
    frame = header.frame

    def patched(at, value):
        return whole[:at] + value + whole[at + len(value) :]

    return {
        "nothing": b"",
        "no image": b"GIF" + bytes(40),
        "only a beginning": whole[:2],
        "cut in its header": whole[:100],
        "cut in its pixels": whole[: len(whole) // 2],
        "cut by one byte": whole[:-1],
        "no pixels at all": whole[: header.scan] + b"\xff\xd9",
        "claims to be huge": patched(frame + 1, b"\xff\xff\xff\xff"),
        "claims no width": patched(frame + 3, b"\0\0"),
        "a factor of 0": patched(frame + 7, b"\0"),
        "a script": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n",
        "a huge png": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\xff\xff\xff\0\xff\xff\xff\x08\2\0\0\0" + bytes(60),
    }


@pytest.mark.parametrize("kind", damaged())
def test_what_is_no_whole_image_is_named(kind):
    with pytest.raises(Undecodable) as raised:
        region_of(damaged()[kind], (0, 0, 213, 320))
    assert str(raised.value)
    assert "0x7f" not in str(raised.value)  # no address of an object in memory


def test_a_claim_is_refused_before_memory_is_taken():
    with pytest.raises(Undecodable, match=f"65535 x 65535 pixels; at most {MOST_PIXELS}"):
        region_of(damaged()["claims to be huge"], (0, 0, 10, 10))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_whatever_the_bytes_are_it_is_an_image_or_undecodable(data):
    kind = data.draw(st.sampled_from(["4:2:0", "every 2 units", "every row", "progressive"]))
    content = bytearray(jpeg(kind, size=(96, 64)))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        opened = open_image(memoryview(content), 3)
        height, width = min(opened.size[0], 40), min(opened.size[1], 40)
        assert opened.region((0, 0, height, width)).shape == (height, width, 3)
    except Undecodable:
        pass


def test_threads_do_not_mix_their_images_up():
    contents = [jpeg(number=number, size=size) for number in (0, 1) for size in ((320, 213), (200, 160))]
    wanted = [decode_with_pillow(content, 3)[10:90, 20:150] for content in contents]
    wrong = []

    def work(mine):
        for round_ in range(30):
            index = (mine + round_) % len(contents)
            if not np.array_equal(region_of(contents[index], (10, 20, 80, 130)), wanted[index]):
                wrong.append(index)

    threads = [threading.Thread(target=work, args=(mine,)) for mine in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
