"""Small files in the layouts of VOC 2012, of the pets, of the stamps and of a table."""

import io
import tarfile

import numpy as np
from PIL import Image

from expflow.data.dataspec import VOID
from expflow.data.labelled_specs import VOC_CLASSES
from tests.data.photographs import photograph

XML = """<annotation><filename>{name}.jpg</filename>{objects}</annotation>"""
OBJECT = "<object><name>{name}</name><difficult>{difficult}</difficult></object>"


def write_image(path, number):
    path.parent.mkdir(parents=True, exist_ok=True)
    size = (20 + number, 16 + number)
    photograph(size=size).save(path)
    return size


def write_mask(path, size, values, mode="L"):
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = np.resize(np.array(values, np.uint8), (size[1], size[0]))
    image = Image.fromarray(mask)
    if mode == "P":
        image = Image.frombytes("P", size, mask.tobytes())
        image.putpalette([value for colour in range(256) for value in (colour, 0, 255 - colour)])
    image.save(path)


def write_voc(root, count):
    """``count`` photographs of train and of val; photograph n has class n, and the class behind it as difficult."""
    for part in ("train", "val"):
        names = [f"2007_{part}{number}" for number in range(count)]
        for number, name in enumerate(names):
            size = write_image(root / "JPEGImages" / f"{name}.jpg", number)
            write_mask(root / "SegmentationClass" / f"{name}.png", size, [0, 1 + number, VOID], "P")
            objects = [(VOC_CLASSES[number], 0), (VOC_CLASSES[number + 1], 1), (VOC_CLASSES[number], 1)]
            text = "".join(OBJECT.format(name=kind, difficult=difficult) for kind, difficult in objects)
            (root / "Annotations").mkdir(exist_ok=True)
            (root / "Annotations" / f"{name}.xml").write_text(XML.format(name=name, objects=text))
        for folder in ("Segmentation", "Main"):
            (root / "ImageSets" / folder).mkdir(parents=True, exist_ok=True)
            (root / "ImageSets" / folder / f"{part}.txt").write_text("\n".join(names) + "\n")


def write_pets(root, count):
    """``count`` photographs of trainval and of test, with trimaps."""
    for part in ("trainval", "test"):
        names = [f"Beagle_{part}_{number}" for number in range(count)]
        for number, name in enumerate(names):
            size = write_image(root / "images" / f"{name}.jpg", number)
            write_mask(root / "annotations" / "trimaps" / f"{name}.png", size, [1, 2, 3])
        (root / "annotations" / f"{part}.txt").write_text("".join(f"{name} 1 1 1\n" for name in names))


def stamp_pngs(count):
    """Name to PNG of stamps that are solid in the middle; two each are of one motif."""
    stamps = {}
    for number in range(count):
        pixels = np.full((12, 10, 4), 40 + number, np.uint8)
        pixels[..., 3] = 0
        pixels[2:9, 3:8, 3] = 255
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        theme = ("animals", "food")[number // 2 % 2]
        stamps[f"{theme}/motif{chr(97 + number // 2)}-{number % 2}.png"] = buffer.getvalue()
    return stamps


def write_stamps(root, count):
    for name, content in stamp_pngs(count).items():
        path = root / "stamps" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def write_package(root, count):
    """The stamps as Debian's package has them: an ar archive with a tar."""
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w:xz") as archive:
        for name, content in stamp_pngs(count).items():
            member = tarfile.TarInfo(f"./usr/share/tuxpaint/stamps/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    root.mkdir()
    with (root / "tuxpaint-stamps-default_1_all.deb").open("wb") as file:
        file.write(b"!<arch>\n")
        for name, content in (("debian-binary", b"2.0\n"), ("control.tar.xz", b"odd"), ("data.tar.xz", tar.getvalue())):
            header = f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n"
            file.write(header.encode() + content + b"\n" * (len(content) % 2))


def write_table(root, count, **columns):
    """``count`` images with classes, numbers and a group for two each."""
    lines = [",".join(("image", "label", "labels", "x", "y", "leaf", *columns))]
    for number in range(count):
        write_image(root / "photos" / f"{number}.png", number)
        labels = " ".join(name for bit, name in enumerate(("old", "wet", "torn")) if (number + 1) >> bit & 1)
        values = [
            f"photos/{number}.png",
            "oak" if number % 2 else "elm",
            labels,
            number,
            -number / 2,
            f"l{number // 2}",
        ]
        lines.append(",".join(map(str, [*values, *(column[number] for column in columns.values())])))
    (root / "table.csv").write_text("\n".join(lines) + "\n")
