"""Folders, pictures and class names as people have them, beside those of test_data_folders: what each gives."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tfcompact.data import open_images
from tfcompact.data.folder_names import alike, split_of
from tfcompact.errors import UserError


def pictures(folder: Path, count: int = 9, start: int = 0, suffix: str = ".png") -> Path:
    """A folder of small pictures, no two the same."""
    folder.mkdir(parents=True)
    for i in range(count):
        pixels = np.random.default_rng([i, *map(ord, str(folder)[-40:]), start]).integers(0, 255, (6, 8, 3))
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i}{suffix}")
    return folder


def classes(root: Path, *names: str) -> None:
    for name in names or ("cat", "dog"):
        pictures(root / name)


def training_set(root):
    classes(root / "training_set")
    classes(root / "test_set")


def titles(root):
    classes(root / "Training Set")
    classes(root / "Validation Set")
    classes(root / "Test Set")


def upper(root):
    classes(root / "TRAIN")
    classes(root / "VALID")


def synology(root):
    classes(root)
    pictures(root / "@eaDir")
    pictures(root / "#recycle", 1)


def windows(root):
    classes(root)
    pictures(root / "$RECYCLE.BIN", 1)
    (root / "System Volume Information").mkdir()
    (root / "cat" / "Thumbs.db").write_bytes(b"x")


def apple(root):
    classes(root)
    for name in ("cat", "dog"):
        (root / name / "._0.png").write_bytes(b"\0\5\x16\7" + bytes(70))


def roboflow(root):
    for part in ("train", "valid", "test"):
        classes(root / part)
    (root / "README.roboflow.txt").write_text("x")


def links(root):
    classes(root.parent / "elsewhere")
    root.mkdir()
    for name in ("cat", "dog"):
        (root / name).symlink_to(root.parent / "elsewhere" / name)


def signs(root):
    classes(root, "00000", "00001")
    (root / "00000" / "GT-00000.csv").write_text("x")


def yolo(root):
    for part in ("train", "val"):
        pictures(root / "images" / part)
        (root / "labels" / part).mkdir(parents=True)


def coco(root):
    pictures(root / "train2017")
    pictures(root / "val2017")
    (root / "annotations").mkdir()
    (root / "annotations" / "instances.json").write_text("{}")


def dogs_and_cats(root):
    pictures(root / "train")
    pictures(root / "test1")


def days(root):
    for name in ("cat", "dog"):
        for day in ("monday", "tuesday"):
            pictures(root / name / day)


def caltech(root):
    classes(root / "101_ObjectCategories")
    (root / "Annotations").mkdir()


def archives(root):
    root.mkdir()
    (root / "cat.zip").write_bytes(b"PK\3\4")


TAKEN = [training_set, titles, upper, synology, windows, apple, roboflow, links, signs]
REFUSED = {
    yolo: r"images has its images in train/ itself, so nothing says of which class each is; put them in train/CLASS/",
    coco: r"has its images in train2017/ itself, so nothing says of which class each is",
    dogs_and_cats: r"has its images in train/ itself, so nothing says of which class each is",
    days: r"cat and 1 more hold folders \(monday/ for one\), not images; put the images of a class into its folder",
    caltech: r"one level down; give the folder they are in: --data \S+101_ObjectCategories$",
    archives: r"has no images, only 1 \.zip|has no images; put them in one folder per class",
}


def opened(root: Path):
    return open_images(str(root), cache=root.parent / "cache", log=lambda line: None)


@pytest.mark.parametrize("layout", TAKEN)
def test_layouts_that_are_taken(tmp_path, layout) -> None:
    layout(tmp_path / "photos")
    found = opened(tmp_path / "photos")
    assert found.classes in (("cat", "dog"), ("00000", "00001"))
    parts = ("train", "validation", "test")
    wanted = {training_set: (None, None, 18), titles: (18, 18, 18), upper: (None, 18, None), roboflow: (18, 18, 18)}
    for part, count in zip(parts, wanted.get(layout, (None,) * 3), strict=True):
        assert count in (None, found.sizes[part]), part
    assert min(found.sizes.values()) > 0


@pytest.mark.parametrize("layout", REFUSED)
def test_layouts_that_are_refused_with_what_would_do(tmp_path, layout) -> None:
    layout(tmp_path / "photos")
    with pytest.raises(UserError, match=REFUSED[layout]) as caught:
        opened(tmp_path / "photos")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train", "train"), ("Training", "train"), ("training_set", "train"), ("trainset", "train"),
        ("Train Data", "train"), ("train-images", "train"), ("train2017", "train"), ("val", "validation"),
        ("VALID", "validation"), ("validation_2", "validation"), ("test1", "test"), ("Testing", "test"),
        ("trains", None), ("training wheels", None), ("contest", None), ("value", None), ("1", None), ("", None),
        ("dataset", None), ("set", None), ("test.old", None), ("ශ්‍රී", None),
    ],
)  # fmt: skip
def test_what_the_folder_of_a_split_may_be_called(name, split) -> None:
    assert split_of(name) == split


OTHERS = {
    "web page": (b"<!DOCTYPE html><html>404", "a web page in the picture's place"),
    "spaced web page": (b"\n  <HTML><body>", "a web page in the picture's place"),
    "LFS": (b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\n", "git lfs pull"),
    "Photoshop": (b"8BPS\0\1" + bytes(300), "a Photoshop document"),
    "PDF": (b"%PDF-1.4\n" + bytes(300), "a PDF document"),
    "SVG": (b"<?xml version='1.0'?>\n<!-- by x -->\n<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG, a drawing"),
    "gzip": (gzip.compress(bytes(999)), "an archive; unpack it"),
    "zip": (b"PK\3\4" + bytes(99), "an archive; unpack it"),
    "JPEG 2000": (b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(99), "JPEG 2000; convert it"),
    "JPEG XL": (b"\xff\x0a" + bytes([7]) * 99, "JPEG XL; convert it"),
    "raw": (b"II*\0\x10\0\0\0CR\2\0" + bytes(99), "TIFF or a camera's raw file"),
    "HEIC": (b"\0\0\0\x18ftypheic" + bytes(99), "HEIC, AVIF or a film"),
    "text": (b"not here", "text, not a picture"),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_what_lies_in_the_place_of_a_picture_is_named(tmp_path, kind) -> None:
    classes(tmp_path / "photos")
    content, words = OTHERS[kind]
    (tmp_path / "photos" / "cat" / "a.jpg").write_bytes(content)
    with pytest.raises(UserError, match="cat/a.jpg is not a readable image") as caught:
        opened(tmp_path / "photos")
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "pair", [("Cat", "cat"), ("a  b", "a b"), ("a b", "a\u00a0b"), ("cat", "cat\u200b"), ("cat", "ｃａｔ"),
             ("cat", "\ufeffcat")]
)  # fmt: skip
def test_classes_that_look_the_same_are_told(tmp_path, pair) -> None:
    classes(tmp_path / "photos", *pair, "bird")
    found = opened(tmp_path / "photos")
    (note,) = [note for note in found.notes if "if they are one" in note]
    assert all(repr(name) in note for name in pair)


def test_classes_of_other_writings_are_not_alike() -> None:
    names = ("e", "é", "සිංහල", "ශ්‍රී", "සිංහ", "👩‍🔬", "👨‍🔬", "🏳️‍🌈", "cat", "cats", "1", "10", "-", "--", "٣", "3a")
    assert alike(names) == []
