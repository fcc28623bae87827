"""Folders of photographs: layouts, splits by content, bad input, what is remembered."""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tfcompact.data import open_images
from tfcompact.data.splits import INTERVALS, position, split
from tfcompact.errors import UnreadableImage, UserError

NOBODY = 65534


def picture(path: Path, seed: int) -> Path:
    """A small PNG that no other seed gives."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 8, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(path, "PNG" if path.suffix.lower() not in (".jpg", ".gif", ".bmp") else None)
    return path


def classes(root: Path, *names: str, count: int = 12, start: int = 0) -> Path:
    for k, name in enumerate(names):
        for i in range(count):
            picture(root / name / f"{i}.png", start + 1000 * k + i)
    return root


@pytest.fixture
def opened(tmp_path):
    cache = tmp_path / "cache"

    def open_(root: Path, **options):
        return open_images(str(root), cache=cache, log=lambda line: None, **options)

    return open_


def where(images, root: Path) -> dict[str, str]:
    """The split of each file of a folder, by relative path."""
    found = {}
    for name, members in images._members.items():
        for i in members:
            found[images._images.describe(i).removeprefix(f"{root}/")] = name
    return found


def refusal(open_, root: Path, **options) -> str:
    with pytest.raises(UserError) as caught:
        open_(root, **options)
    line = str(caught.value)
    assert "\n" not in line
    return line


def test_every_suffix_counts_and_nothing_else_does(tmp_path, opened):
    root = classes(tmp_path / "photos", "a", "b")
    for i, suffix in enumerate((".jpg", ".JPEG", ".Png", ".webp", ".bmp", ".GIF")):
        Image.fromarray(np.full((8, 8, 3), i * 9, np.uint8)).save(root / "a" / f"x{suffix}")
    for name in ("Thumbs.db", ".hidden.png", "._x.png", "notes.txt", "IMG_1.HEIC"):
        (root / "a" / name).write_bytes(b"not an image")
    (root / ".git").mkdir()
    images = opened(root)
    assert images.classes == ("a", "b")
    assert sum(images.sizes.values()) == 24 + 6
    assert images.notes == ("ignored files that are not bmp/gif/jfif/jpe/jpeg/jpg/png/webp: .heic (1), .txt (1)",)


def test_opening_does_not_import_tensorflow(tmp_path):
    root = classes(tmp_path / "photos", "a", "b")
    script = (
        "import sys; from pathlib import Path; from tfcompact.data import open_images;"
        f"open_images({str(root)!r}, cache=Path({str(tmp_path)!r})).arrays('test', px=8);"
        "assert not {'tensorflow', 'keras', 'tf_keras'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_adding_a_photograph_moves_no_other(tmp_path, opened):
    root = classes(tmp_path / "photos", "a", "b", count=60)
    before = opened(root)
    picture(root / "a" / "0000-new.png", 7777)
    after = opened(root)
    old, new = where(before, root), where(after, root)
    assert set(new) - set(old) == {"a/0000-new.png"}
    assert {name: new[name] for name in old} == old
    assert before.digest != after.digest
    (root / "a" / "0000-new.png").unlink()
    assert opened(root).digest == before.digest


def test_names_and_places_do_not_enter_the_digest(tmp_path, opened):
    root = classes(tmp_path / "photos", "a", "b")
    copy = tmp_path / "elsewhere"
    shutil.copytree(root, copy)
    (copy / "a" / "0.png").rename(copy / "a" / "renamed.png")
    assert opened(root).digest == opened(copy).digest
    (copy / "b").rename(copy / "c")
    assert opened(root).digest != opened(copy).digest


def test_splits_follow_the_thresholds_in_proportion():
    content = [bytes([i % 256, i // 256, 3, 5]) * 8 for i in range(4000)]
    hashed = [np.random.default_rng(i).bytes(32) for i in range(4000)]
    result = split(["a"], [0] * 4000, hashed, [None] * 4000)
    for image, name in zip(hashed, result, strict=True):
        low, high = INTERVALS[name]
        assert low <= position(image) < high
    assert 330 < result.count("test") < 470
    assert 330 < result.count("validation") < 470
    assert len(split(["a"], [0] * 4000, content, [None] * 4000)) == 4000


def at(u: float) -> bytes:
    """A content hash that lies at `u`."""
    return int(u * 2**64).to_bytes(8, "big") + bytes(24)


def test_a_small_class_fills_each_split_by_moving_the_nearest():
    content = [at(u) for u in (0.95, 0.5, 0.3, 0.25)]
    assert split(["a"], [0] * 4, content, [None] * 4) == ["train", "train", "validation", "test"]
    assert split(["a"], [0] * 3, [at(u) for u in (0.01, 0.02, 0.03)], [None] * 3) == ["test", "train", "validation"]
    # One that belongs there by itself arrives: only the stand-in moves, back to where it belongs.
    assert split(["a"], [0] * 5, [*content, at(0.05)], [None] * 5) == [
        "train",
        "train",
        "train",
        "validation",
        "test",
    ]
    # Copies go together.
    assert split(["a"], [0] * 5, [*content, at(0.25)], [None] * 5)[3:] == ["test", "test"]


def test_given_folders_are_kept_and_missing_ones_split_off(tmp_path, opened):
    root = tmp_path / "photos"
    classes(root / "train", "a", "b", count=40)
    classes(root / "Test", "a", "b", count=5, start=500)
    images = opened(root)
    assert images.sizes["test"] == 10
    assert images.sizes["validation"] >= 2
    assert images.sizes["train"] + images.sizes["validation"] == 80
    classes(root / "validation", "a", "b", count=3, start=700)
    assert opened(root).sizes == {"train": 80, "validation": 6, "test": 10}


def test_a_class_may_be_called_train(tmp_path, opened):
    images = opened(classes(tmp_path / "vehicles", "bus", "train"))
    assert images.classes == ("bus", "train")


def test_duplicates_are_reported(tmp_path, opened):
    root = tmp_path / "photos"
    classes(root / "train", "a", "b", count=20)
    classes(root / "test", "a", "b", count=3, start=500)
    classes(root / "val", "a", "b", count=3, start=700)
    shutil.copy(root / "train/a/0.png", root / "test/a/copy.png")
    shutil.copy(root / "train/b/1.png", root / "train/a/wrong.png")
    shutil.copy(root / "train/b/2.png", root / "train/b/same.png")
    assert opened(root).notes == (
        f"the same image in test and train: {root}/test/a/copy.png and {root}/train/a/0.png",
        f"the same image under 'a' and 'b': {root}/train/a/wrong.png and {root}/train/b/1.png",
    )


def test_class_weights_have_mean_one_over_the_images(tmp_path, opened):
    root = classes(tmp_path / "photos", "a", count=60)
    classes(root, "b", count=20, start=3000)
    images = opened(root)
    count = np.bincount(images._labels("train"))
    weights = np.array(images.class_weights())
    assert (weights * count).sum() == pytest.approx(count.sum())
    assert weights[0] * count[0] == pytest.approx(weights[1] * count[1])


def test_what_is_wrong_with_a_folder_is_said_in_one_line(tmp_path, opened):
    empty = tmp_path / "empty"
    empty.mkdir()
    assert refusal(opened, empty) == f"{empty} has no images; put them in one folder per class: CLASS/*.jpg"
    picture(empty / "x.png", 0)
    assert "has no images in class folders, but 1 beside them; put them in" in refusal(opened, empty)
    one = classes(tmp_path / "one", "rose")
    assert "has one class, 'rose'; add a folder of another" in refusal(opened, one)
    (one / "tulip").mkdir()
    assert "class folder tulip of" in refusal(opened, one)
    picture(one / "tulip/1.png", 1)
    picture(one / "tulip/2.png", 2)
    assert refusal(opened, one) == (
        "class 'tulip' has 2 images, fewer than the 3 splits to fill (train, validation, test); add at least 1"
    )
    shutil.copy(one / "tulip/1.png", one / "tulip/copy.png")
    assert "class 'tulip' has 2 images" in refusal(opened, one)
    assert "did you mean digits?, tfds:NAME" in refusal(opened, Path("digit"))
    assert "is a file; give the folder" in refusal(opened, one / "rose/1.png")


def test_a_class_name_must_fit_in_a_line_of_labels(tmp_path, opened):
    root = classes(tmp_path / "photos", "a", "b\nc")
    assert "class folder 'b\\nc' has a control character in its name; rename it" in refusal(opened, root)
    (root / "b\nc").rename(root / "Gänseblümchen (weiß)")
    assert opened(root).classes == ("Gänseblümchen (weiß)", "a")


def test_names_of_classes_are_those_of_people(tmp_path, opened):
    names = ["گل\u200cرز", "ශ්\u200dරී", "バラ", "« Églantier »", "gül\u00a0beyaz", "👩\u200d🌾", "x" * 250]
    root = classes(tmp_path / "photos", *names)
    assert set(opened(root).classes) == set(names)
    for bad in ("a\u2028b", "a\u2029b", "a\x85b", "a\x7fb"):
        odd = classes(tmp_path / "odd", "plain", bad)
        assert "has a control character in its name" in refusal(opened, odd)
        shutil.rmtree(odd)


def test_one_name_in_two_forms_of_unicode_is_one_class(tmp_path, opened):
    composed, decomposed = "\u00e9glantier", "e\u0301glantier"
    root = classes(tmp_path / "photos", composed, "rose")
    classes(root, decomposed, start=900)
    images = opened(root)
    assert images.classes == ("rose", composed)
    assert sum(images.sizes.values()) == 36


def test_split_folders_go_by_many_names(tmp_path, opened):
    for i, (train, validation, test) in enumerate(
        [("Train", "valid", "Testing"), ("training", "Validation", "TEST"), ("train", "val", "test")]
    ):
        root = tmp_path / str(i)
        classes(root / train, "a", "b", count=20)
        classes(root / validation, "a", "b", count=3, start=500)
        classes(root / test, "a", "b", count=4, start=700)
        assert opened(root).sizes == {"train": 40, "validation": 6, "test": 8}


def test_images_in_a_split_itself_are_of_no_class(tmp_path, opened):
    root = tmp_path / "kaggle"
    classes(root, "train", "test", count=20)
    assert refusal(opened, root) == (
        f"{root} has its images in train/ itself, so nothing says of which class each is; put them in train/CLASS/"
    )
    shutil.rmtree(root / "train")
    classes(root / "train", "a", "b", count=30)
    images = opened(root)
    assert images.classes == ("a", "b")
    assert sum(images.sizes.values()) == 60
    assert images.notes == (f"not read: 20 images in {root}/test itself, which are of no class",)


def test_a_folder_further_down_is_named(tmp_path, opened):
    root = tmp_path / "down loads"
    classes(root / "flower_photos", "a", "b")
    (root / "flower_photos.tgz").write_bytes(b"archive")
    expected = f"give the folder they are in: --data '{root}/flower_photos'"
    assert refusal(opened, root).endswith(expected)
    classes(root / "animals", "cat", "dog")
    line = refusal(opened, root)
    assert "animals and 1 more hold folders (cat/ for one), not images" in line
    assert line.endswith(f"--data '{root}/animals'")
    deep = tmp_path / "deep"
    classes(deep / "x" / "data", "train")
    shutil.rmtree(deep / "x" / "data" / "train")
    classes(deep / "x" / "data" / "train", "a", "b")
    assert f"--data {deep}/x/data" in refusal(opened, deep)


def test_a_class_with_folders_in_it_does_not_hide_an_empty_one(tmp_path, opened):
    root = classes(tmp_path / "photos", "a", "b")
    classes(root / "a", "indoors", "outdoors")
    (root / "empty").mkdir()
    assert refusal(opened, root) == f"class folder empty of {root} has no images; add some or remove it"
    classes(root / "empty", "cat", "dog")
    assert f"give the folder they are in: --data {root}/empty" in refusal(opened, root)


def test_a_class_of_other_files_is_told_with_their_number(tmp_path, opened):
    root = classes(tmp_path / "photos", "a", "b")
    (root / "c").mkdir()
    for i in range(3):
        (root / "c" / f"IMG_{i}.HEIC").write_bytes(b"x")
    (root / "c" / "x.tif").write_bytes(b"x")
    assert "class folder c of" in refusal(opened, root)
    assert "only files of other kinds: 3 .heic, 1 .tif; convert them to JPEG" in refusal(opened, root)


def test_a_folder_called_like_an_image_is_no_image(tmp_path, opened):
    root = classes(tmp_path / "photos", "a", "b")
    (root / "a" / "album.png").mkdir()
    assert sum(opened(root).sizes.values()) == 24


def test_copies_of_a_placeholder_are_told(tmp_path, opened):
    root = classes(tmp_path / "photos", "a", "b", count=30)
    for i in range(20):
        shutil.copy(root / "a/0.png", root / f"a/copy{i:02d}.png")
    (note,) = opened(root).notes
    assert note.startswith("21 copies of one image, perhaps a placeholder: ")


def test_photographs_without_their_end_are_told(tmp_path, opened):
    root = classes(tmp_path / "photos", "a", "b")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)).save(root / "a/x.jpg")
    (root / "a/x.jpg").write_bytes((root / "a/x.jpg").read_bytes()[:-2])
    expected = (f"1 without their last bytes, taken since every row is there: {root}/a/x.jpg",)
    assert opened(root).notes == expected
    assert opened(root).notes == expected  # from what is remembered of the folder, too


def test_split_folders_that_contradict_each_other(tmp_path, opened):
    root = classes(tmp_path / "photos" / "train", "a", "b").parent
    classes(root / "val", "a", start=400)
    assert "class 'b' has no validation image in" in refusal(opened, root)
    classes(root / "val", "b", start=500)
    classes(root / "validation", "a", "b", start=600)
    assert "has val/ and validation/: two for one split" in refusal(opened, root)
    shutil.rmtree(root / "validation")
    classes(root, "extra")
    assert "has extra/ beside train/" in refusal(opened, root)


def damaged(root: Path) -> list[Path]:
    """One file of each kind that cannot be read, with names as people give them."""
    jpeg = root / "a" / "good.jpg"
    Image.fromarray(np.random.default_rng(5).integers(0, 256, (64, 64, 3)).astype(np.uint8)).save(jpeg)
    contents = {
        "trünkated 写真.jpg": jpeg.read_bytes()[:-300],
        "zero.jpg": b"",
        'it\'s "text"\nindeed.jpg': b"hello",
    }
    files = [root / "a" / name for name in contents]
    for file, content in zip(files, contents.values(), strict=True):
        file.write_bytes(content)
    loop = root / "a" / "loop.jpg"
    loop.symlink_to(loop)
    return [*files, loop]


def test_unreadable_files_are_named_or_skipped_and_listed(tmp_path, opened):
    root = classes(tmp_path / "photos", "a", "b")
    files = damaged(root)
    line = refusal(opened, root)
    assert line.endswith(" (3 more like it); remove it, or pass --skip-unreadable")
    images = opened(root, skip_unreadable=True)
    assert sum(images.sizes.values()) == 25
    assert images.notes[0] == "skipped 4 unreadable files:"
    assert len(images.notes) == 5
    assert not any("\n" in note for note in images.notes)
    for file in files:
        assert any(file.name.split("\n")[0].split('"')[-1] in note for note in images.notes)
    assert any("trünkated 写真.jpg is not a readable image (truncated)" in note for note in images.notes)
    for file in files:
        file.unlink()
    assert opened(root).digest == images.digest


def test_a_folder_that_links_to_itself_is_named(tmp_path, opened):
    root = classes(tmp_path / "photos", "a", "b")
    (root / "again").symlink_to(root)
    assert "again is a symbolic link that leads back to itself; remove it" in refusal(opened, root)
    assert opened(root, skip_unreadable=True).classes == ("a", "b")
    (root / "again").unlink()
    classes(tmp_path / "elsewhere", "c", start=5000)
    (root / "c").symlink_to(tmp_path / "elsewhere" / "c")
    assert opened(root).classes == ("a", "b", "c")


def test_missing_permissions_are_named():
    # Not below tmp_path, which others than its owner may not enter.
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        root, cache = classes(Path(name) / "photos", "a", "b"), Path(name) / "cache"
        cache.mkdir()
        cache.chmod(0o777)
        locked = root / "a" / "0.png"
        for path, expected in (
            (locked, f"{locked} is not a readable image (permission denied"),
            (root / "b", "listed"),
        ):
            path.chmod(0)
            with as_nobody(), pytest.raises(UserError) as caught:
                open_images(str(root), cache=cache)
            assert expected in str(caught.value)
            assert "chmod u+r" in str(caught.value)
            path.chmod(0o755)


@contextlib.contextmanager
def as_nobody():
    """Root reads everything: be nobody for a while."""
    mine = os.geteuid()
    if mine == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(mine)


def test_a_second_opening_decodes_nothing_and_a_changed_file_is_seen(tmp_path, opened, monkeypatch):
    root = classes(tmp_path / "photos", "a", "b", count=30)
    first = opened(root)
    looked = []
    monkeypatch.setattr("tfcompact.data.verified.verify", lambda path: looked.append(path) or 1 / 0)
    assert opened(root).digest == first.digest
    assert not looked
    monkeypatch.undo()
    picture(root / "a" / "3.png", 4242)
    os.utime(root / "a" / "3.png", ns=(1, time.time_ns() + 10**9))
    assert opened(root).digest != first.digest


def test_a_damaged_memory_only_costs_time(tmp_path, opened):
    root = classes(tmp_path / "photos", "a", "b")
    first = opened(root)
    (memory,) = (tmp_path / "cache").glob("scan-*.json")
    for content in (b"", b"{", b"[]", b'{"format": 1, "rows": {"a/0.png": [1]}}', b'{"format": 99, "rows": {}}'):
        memory.write_bytes(content)
        assert opened(root).digest == first.digest


def test_a_memory_in_which_a_digit_changed_is_not_believed(tmp_path, opened, caplog):
    """Its sizes, times and hashes decide which photograph is in which split."""
    root = classes(tmp_path / "photos", "a", "b", count=40)
    before = opened(root)
    (memory,) = (tmp_path / "cache").glob("scan-*.json")
    text = memory.read_text()
    content = before._images.content[0].hex()
    other = content.translate(str.maketrans("0123456789", "1234567890"))
    memory.write_text(text.replace(content, other))
    again = opened(root)
    assert again.digest == before.digest
    assert "is damaged; the folder's images are checked again" in caplog.text


def test_a_file_that_changes_after_opening_is_noticed(tmp_path, opened):
    root = classes(tmp_path / "photos", "a", "b")
    images = opened(root)
    for i, file in enumerate((root / "a").iterdir()):
        picture(file, 20000 + i)
    with pytest.raises(UserError, match="was changed after the folder was opened; start again"):
        images.arrays("test", px=8)


def test_a_cache_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot make the cache .* give another with --cache"):
        open_images("digits", cache=tmp_path / "file" / "below")


def test_file_names_that_are_not_unicode_are_read(tmp_path, opened):
    root = classes(tmp_path / "photos", "a", "b")
    odd = os.fsdecode(b"caf\xe9.png")
    (root / "a" / "0.png").rename(root / "a" / odd)
    assert sum(opened(root).sizes.values()) == 24
    (root / "a" / odd).write_bytes(b"")
    assert "caf\\udce9.png' is not a readable image (zero bytes)" in refusal(opened, root)


def test_unreadable_image_is_a_user_error():
    assert issubclass(UnreadableImage, UserError)
