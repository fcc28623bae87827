"""Files that are replaced as a whole."""

import io

import numpy as np
import pytest

from tfcompact import files


@pytest.mark.parametrize(
    "array",
    [np.arange(24, dtype=np.uint8).reshape(2, 3, 4), np.array([1, 2, 3]), np.zeros((0, 3), np.float32),
     np.arange(12.0).reshape(3, 4).T],
)  # fmt: skip
def test_an_array_has_the_bytes_that_numpy_gives_it(tmp_path, array) -> None:
    files.write_array(tmp_path / "a.npy", array)
    content = io.BytesIO()
    np.save(content, np.ascontiguousarray(array))
    assert (tmp_path / "a.npy").read_bytes() == content.getvalue()
    assert np.array_equal(np.load(tmp_path / "a.npy"), array)
    assert [path.name for path in tmp_path.iterdir()] == ["a.npy"]
