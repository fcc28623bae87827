"""The cache of decoded pixels: whole after any failure, shared by processes, bounded."""

import contextlib
import errno
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tfcompact.data import Augment, open_images
from tfcompact.data.cache import CHECKSUM, Store, _age_and_bytes
from tfcompact.errors import UserError
from tfcompact.records.artifact import Normalization

SIDE = 8
NAMES = [bytes([i]) * 32 for i in range(40)]


def record(i: int) -> np.ndarray:
    return np.full((SIDE, SIDE, 3), i, np.uint8)


def filled(path: Path, names=NAMES, **options) -> Store:
    store = Store(path / "pixels" / "set" / "kind-8", SIDE, **options)
    store.fill(names, lambda k: record(NAMES.index(names[k])), title="")
    return store


def whole(store: Store, names=NAMES) -> bool:
    return all((store.read(name) == NAMES.index(name)).all() for name in names)


def test_what_was_put_in_comes_out_also_later(tmp_path):
    assert whole(filled(tmp_path))
    later = Store(tmp_path / "pixels" / "set" / "kind-8", SIDE)
    assert len(later) == 40
    assert whole(later)
    later.fill(NAMES, lambda k: 1 / 0, title="")  # nothing is missing, nothing is made
    assert b"?" * 32 not in later


def test_copies_are_kept_once(tmp_path):
    assert len(filled(tmp_path, NAMES[:5] * 3)) == 5


def test_a_failure_loses_only_what_was_under_way(tmp_path):
    store = Store(tmp_path / "pixels" / "set" / "kind-8", SIDE)

    def produce(i: int) -> np.ndarray:
        if i == 25:
            raise UserError("this file is gone")
        return record(i)

    with pytest.raises(UserError, match="gone"):
        store.fill(NAMES, produce, title="")
    assert len(store) >= 25
    assert len(Store(store.path, SIDE)) == len(store)
    assert whole(filled(tmp_path))


def test_what_a_killed_process_or_a_power_failure_left_is_made_again(tmp_path):
    store = filled(tmp_path, NAMES[:20])
    store.file(NAMES[3]).write_bytes(b"")
    store.file(NAMES[4]).write_bytes(b"half")
    store.file(NAMES[30]).with_name(f".{NAMES[30].hex()}.u8").write_bytes(b"under way")
    assert len(Store(store.path, SIDE)) == 18
    assert whole(filled(tmp_path))
    assert not list(store.path.glob(".*"))


def test_a_record_that_vanishes_is_one_line(tmp_path):
    store = filled(tmp_path)
    store.file(NAMES[0]).unlink()
    with pytest.raises(UserError, match="is damaged; remove it: it is made again"):
        store.read(NAMES[0])


@pytest.mark.parametrize("damage", [bytes(SIDE * SIDE * 3 + 4), None])
def test_a_damaged_record_is_made_again(tmp_path, damage, caplog):
    store = filled(tmp_path)
    for i in (3, 7):
        data = bytearray(store.file(NAMES[i]).read_bytes())
        data[17] ^= 1
        store.file(NAMES[i]).write_bytes(damage or data)
    made = []
    later = Store(store.path, SIDE)
    later.fill(NAMES, lambda i: made.append(i) or record(i), title="")
    assert made == [3, 7]
    assert whole(later)
    assert "2 damaged images in the cache" in caplog.text


def test_two_that_fill_at_once_stay_within_the_bound(tmp_path):
    """The second begins while the first is in the middle, of another size."""
    size = SIDE * SIDE * 3 + CHECKSUM
    paths = [tmp_path / "pixels" / name / "kind-8" for name in ("a", "b")]
    first, second = (Store(path, SIDE, max_bytes=30 * size) for path in paths)
    middle = threading.Event()
    done = threading.Event()

    def slow(i: int) -> np.ndarray:
        if i == 10:
            middle.set()
            done.wait(10)
        return record(i)

    thread = threading.Thread(target=lambda: first.fill(NAMES[:25], slow, title=""))
    thread.start()
    assert middle.wait(10)
    second.fill(NAMES, record, title="")
    done.set()
    thread.join()
    assert len(first) == 25
    assert len(second) <= 5
    second.fill(NAMES, record, title="")  # what was reserved is given back
    assert len(second) == 5


def test_a_file_renamed_while_the_directory_is_read_does_not_make_the_rest_nothing(tmp_path, monkeypatch):
    """A record under way has got its final name between the listing and the look at its size."""
    store = filled(tmp_path)
    size = SIDE * SIDE * 3 + CHECKSUM
    lock = store.path / "use.lock"
    scandir = os.scandir

    @contextlib.contextmanager
    def listed_before(path):
        under_way, damaged = store.path / f".{NAMES[0].hex()}.u8", store.file(NAMES[0])
        under_way.write_bytes(bytes(size))
        damaged.write_bytes(bytes(size))
        with scandir(path) as entries:
            entries = list(entries)
        under_way.unlink()
        damaged.unlink()
        yield entries

    monkeypatch.setattr(os, "scandir", listed_before)
    assert _age_and_bytes(lock) == (lock.stat().st_mtime, (len(NAMES) - 1) * size)
    assert len(Store(store.path, SIDE)) == len(NAMES) - 1


EVICT = """
import sys; from pathlib import Path; import numpy as np
from tfcompact.data.cache import CHECKSUM, Store
root, name, seed = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
rng = np.random.default_rng(seed)
for _ in range(150):
    store = Store(root / "pixels" / f"set{rng.integers(3)}" / "kind-8", 8, max_bytes=20 * 196)
    names = [bytes([i]) * 32 for i in range(8)]
    store.fill(names, lambda k: np.full((8, 8, 3), k, np.uint8), title="")
    for k, content in enumerate(names):
        assert content not in store or (store.read(content) == k).all()
    del store
"""


def test_stores_are_opened_while_others_remove_them(tmp_path):
    children = [
        subprocess.Popen([sys.executable, "-c", EVICT, str(tmp_path), "x", str(i)], stderr=subprocess.PIPE, text=True)
        for i in range(3)
    ]
    for child in children:
        assert child.communicate()[1] == ""
        assert child.returncode == 0


def test_a_full_disk_is_one_line_and_keeps_what_there_is(tmp_path, monkeypatch):
    store = filled(tmp_path, NAMES[:10])

    def full(path, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UserError, match="no room left for the cache .* free some, or give another with --cache"):
        store.fill(NAMES, record, title="")
    monkeypatch.undo()
    assert whole(filled(tmp_path))


def test_it_stops_at_its_bound_and_removes_only_what_nobody_uses(tmp_path):
    size = SIDE * SIDE * 3 + CHECKSUM
    assert len(filled(tmp_path, max_bytes=25 * size)) == 25
    old = Store(tmp_path / "pixels" / "set" / "kind-8", SIDE)
    second = Store(tmp_path / "pixels" / "other" / "kind-8", SIDE, max_bytes=30 * size)
    second.fill(NAMES, record, title="")
    assert len(second) == 5  # the other is in use
    del old
    third = Store(tmp_path / "pixels" / "third" / "kind-8", SIDE, max_bytes=30 * size)
    third.fill(NAMES[:20], record, title="")
    assert len(third) == 20
    assert not (tmp_path / "pixels" / "set" / "kind-8").exists()
    assert whole(second, NAMES[:5])


FILL = """
import hashlib, sys; from pathlib import Path
from tfcompact.data import open_images
images = open_images(sys.argv[1], cache=Path(sys.argv[2]), log=lambda line: None)
for split in ("train", "validation", "test"):
    print(hashlib.sha256(images.arrays(split, px=160)[0]).hexdigest())
"""


@pytest.fixture
def photos(tmp_path):
    random = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(40):
            pixels = random.integers(0, 256, (200, 260, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{i}.png")
    return tmp_path / "photos"


def start(photos: Path, cache: Path) -> subprocess.Popen:
    command = [sys.executable, "-c", FILL, str(photos), str(cache)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_processes_that_fill_at_once_and_one_that_is_killed_do_no_harm(photos, tmp_path):
    expected = start(photos, tmp_path / "alone").communicate()[0]
    assert expected.count("\n") == 3
    killed = start(photos, tmp_path / "shared")
    for _ in range(1000):  # until it is in the middle of writing
        if any((tmp_path / "shared" / "pixels").glob("*/*/*.u8")):
            break
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    both = [start(photos, tmp_path / "shared") for _ in range(2)]
    assert [process.communicate()[0] for process in both] == [expected, expected]


def test_cached_and_uncached_pixels_are_the_same(photos, tmp_path):
    cached = open_images(str(photos), cache=tmp_path / "cache")
    bounded = open_images(str(photos), cache=tmp_path / "small", max_cache_bytes=10 * (24 * 24 * 3 + CHECKSUM))
    for split in ("train", "test"):
        first = cached.arrays(split, px=24)[0]
        np.testing.assert_array_equal(first, bounded.arrays(split, px=24)[0])
        np.testing.assert_array_equal(first, cached.arrays(split, px=24)[0])
    sizes = [file.stat().st_size for file in (tmp_path / "small").glob("pixels/*/*/*.u8")]
    assert sizes == [24 * 24 * 3 + CHECKSUM] * 10


def test_later_epochs_do_not_decode(photos, tmp_path, monkeypatch):
    images = open_images(str(photos), cache=tmp_path / "cache")
    first = images.arrays("train", px=24)[0]
    monkeypatch.setattr("tfcompact.data.folders.decode", lambda *_, **__: 1 / 0)
    np.testing.assert_array_equal(images.arrays("train", px=24)[0], first)
    again = open_images(str(photos), cache=tmp_path / "cache")
    np.testing.assert_array_equal(again.arrays("train", px=24)[0], first)


STOP = """
import sys; from pathlib import Path
from tfcompact.data import Augment, open_images
from tfcompact.records.artifact import Normalization
options = dict(px=96, batch=16, normalization=Normalization())
alive = []
for room in (10**9, 10**5):  # read from the cache by TensorFlow, and decoded by Python calls
    images = open_images(sys.argv[1], cache=Path(sys.argv[2], str(room)), max_cache_bytes=room)
    alive.append(iter(images.training(augment=Augment(), seed=0, epochs=1000, **options)))
    alive.append(iter(images.batches("train", **options)))
print([next(iterator)[0].shape for iterator in alive])
raise KeyboardInterrupt
"""


def test_a_process_that_stops_in_the_middle_of_an_epoch_ends(photos, tmp_path):
    """A pipeline that calls Python while the interpreter shuts down would wait for ever."""
    command = [sys.executable, "-c", STOP, str(photos), str(tmp_path / "cache")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.stderr.rstrip().endswith("KeyboardInterrupt")
    assert ended.stdout.count("TensorShape([16, 96, 96, 3])") == 4


def test_training_is_the_same_without_room_for_a_cache(photos, tmp_path):
    def batches(room: int) -> list[np.ndarray]:
        images = open_images(str(photos), cache=tmp_path / str(room), max_cache_bytes=room, log=lambda line: None)
        data = images.training(px=32, batch=8, normalization=Normalization(), augment=Augment(), seed=1, epochs=1)
        return [x for x, _ in data.as_numpy_iterator()]

    for a, b in zip(batches(10**9), batches(20 * 37 * 37 * 3), strict=True):
        np.testing.assert_array_equal(a, b)
