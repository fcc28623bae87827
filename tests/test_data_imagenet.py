"""ImageNet's photographs with their 1000 classes: two layouts, and lines for what is neither."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tfcompact.data import imagenet, open_images
from tfcompact.errors import UserError


def picture(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (20, 24, 3), np.uint8)).save(path)


def test_a_thousand_different_names_of_which_the_first_is_tench() -> None:
    names = imagenet.classes()
    assert (len(names), len(set(names))) == (1000, 1000)
    assert (names[0], names[1], names[999]) == ("tench", "goldfish", "toilet paper")


def test_loose_files_carry_their_index(tmp_path: Path) -> None:
    indices = sorted([0, 7, 7, *range(100, 145), 999])
    for seed, index in enumerate(indices):
        picture(tmp_path / f"photos/{index:04d}_n{seed:08d}_thing.png", seed)
    (tmp_path / "photos/readme.txt").write_text("not an image")
    images = open_images(f"imagenet:{tmp_path / 'photos'}", cache=tmp_path / "cache")
    assert len(images.classes) == 1000
    assert min(images.sizes.values()) > 0
    found = sorted(int(y) for split in images.sizes for y in images.arrays(split, px=16)[1])
    assert found == indices


def test_folders_by_wordnet_id_need_all_of_them(tmp_path: Path) -> None:
    for i in range(1000):
        (tmp_path / f"all/n{i:08d}").mkdir(parents=True)
    indices = [3, *range(500, 550)]
    for i in indices:
        picture(tmp_path / f"all/n{i:08d}/a.png", i)
    images = open_images(f"imagenet:{tmp_path / 'all'}", cache=tmp_path / "cache")
    assert sorted(int(y) for split in images.sizes for y in images.arrays(split, px=16)[1]) == indices
    (tmp_path / "all/n00000004").rmdir()
    with pytest.raises(UserError, match="999 folders like n00000000, not 1000"):
        open_images(f"imagenet:{tmp_path / 'all'}", cache=tmp_path / "cache")


@pytest.mark.parametrize("make", [False, True])
def test_a_folder_without_them_is_told_the_layout(make: bool, tmp_path: Path) -> None:
    if make:
        picture(tmp_path / "photos/holiday.png", 0)
    with pytest.raises(UserError, match="holds n01440764/ and 999 more, or files like 0000_n01440764_tench.jpg"):
        open_images(f"imagenet:{tmp_path / 'photos'}", cache=tmp_path / "cache")


def test_a_damaged_photograph_is_named(tmp_path: Path) -> None:
    for i in range(50):
        picture(tmp_path / f"{i:04d}_n1_a.png", i)
    (tmp_path / "0052_n2_b.jpg").write_bytes(b"")
    with pytest.raises(UserError, match="0052_n2_b.jpg is not a readable image"):
        open_images(f"imagenet:{tmp_path}", cache=tmp_path / "cache")
    images = open_images(f"imagenet:{tmp_path}", cache=tmp_path / "cache", skip_unreadable=True)
    assert sum(images.sizes.values()) == 50


def test_too_few_to_judge_by_is_said(tmp_path: Path) -> None:
    picture(tmp_path / "0001_n1_a.png", 0)
    with pytest.raises(UserError, match="of the 1 photographs in .* none is for"):
        open_images(f"imagenet:{tmp_path}", cache=tmp_path / "cache")
