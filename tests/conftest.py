"""What all tests share: which are slow, the same random numbers for each, real photographs where there are any."""

import logging
import os
import random
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow's start-up lines, before anything imports it
logging.getLogger("tensorflow").setLevel(logging.ERROR)

DATA = Path(__file__).parent.parent / os.environ.get("TFCOMPACT_TEST_DATA", "../shared/data")


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="run the slow tests too (CI=true does as well)")
    parser.addoption("--exhaustive", action="store_true", help="every variant of a family, not only its cheapest")


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--exhaustive"):
        for item in items:
            if "exhaustive" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="exhaustive: give --exhaustive"))
    if config.getoption("--slow") or os.environ.get("CI", "").lower() in ("1", "true"):
        return
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="slow: give --slow, or set CI=true"))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Seeds every generator before an item and its fixtures, so that no test depends on those before it."""
    random.seed(0)
    np.random.seed(0)
    if "tf_keras" in sys.modules:
        sys.modules["tf_keras"].utils.set_random_seed(0)


@pytest.fixture(scope="session")
def flowers(tmp_path_factory) -> Path:
    """A folder `CLASS/*.jpg`: the first 12 photographs of each of five kinds of flowers."""
    taken: dict[str, int] = {}

    def first_of_each(name: str) -> bool:
        kind = name.split("/")[1]
        taken[kind] = taken.get(kind, 0) + 1
        return taken[kind] <= 12

    return _unpacked("flowers.tar", first_of_each, tmp_path_factory) / "flowers"


@pytest.fixture(scope="session")
def photographs(tmp_path_factory) -> list[Path]:
    """40 photographs of as many kinds of things; a name begins with its ImageNet class index."""
    folder = _unpacked("imagenet-sample.tar", lambda name: int(name.split("/")[1][:4]) % 24 == 0, tmp_path_factory)
    return sorted((folder / "imagenet-sample").glob("*.jpg"))[:40]


def _unpacked(archive: str, wanted, tmp_path_factory) -> Path:
    if not (DATA / archive).is_file():
        pytest.skip(
            f"no photographs: {DATA / archive} is missing; set TFCOMPACT_TEST_DATA to the folder that holds it"
        )
    folder = tmp_path_factory.mktemp(archive.partition(".")[0])
    with tarfile.open(DATA / archive) as tar:
        members = sorted((m for m in tar if m.isfile() and m.name.count("/")), key=lambda m: m.name)
        tar.extractall(folder, [m for m in members if wanted(m.name)], filter="data")
    return folder
