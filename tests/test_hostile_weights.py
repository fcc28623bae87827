"""Files of weights from elsewhere: whatever their bytes are, arrays or one line come of it, in bounded memory."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from mutations import mutated
from safetensors.numpy import save_file
from test_state import torch_stream, torch_zip

from tfcompact.frameworks import keras
from tfcompact.weights import saved

MUTATIONS = 400
SECONDS, MEGABYTES = 10, 300
READ = """
import re, resource, signal, sys
from pathlib import Path
from tfcompact.errors import UserError
from tfcompact.weights import keras_file, saved, state_dict

def held():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1e3

good = Path(sys.argv[1]) / "whole.h5"
saved.load(good)
before = held()
for path in sorted(Path(sys.argv[1]).iterdir()):
    if path == good:
        continue
    readers = [keras_file.classes, saved.load] if path.suffix == ".h5" else [state_dict.read]
    for read in readers:
        signal.alarm(SECONDS)
        try:
            read(path)
        except UserError as error:
            if "\\n" in str(error) or path.name not in str(error):
                print(path.name, "said", error)
        except BaseException as error:
            print(path.name, read.__name__, type(error).__name__, error)
        signal.alarm(0)
print(f"{held() - before:.0f} MB", file=sys.stderr)
if held() - before > MEGABYTES:
    print("more memory than allowed")
"""


def originals(folder: Path) -> dict[str, bytes]:
    """A file of every kind that is read."""
    rng = np.random.default_rng(0)
    arrays = {"a.weight": rng.normal(size=(4, 3)).astype(np.float32), "a.bias": np.arange(4, dtype=np.float32)}
    inputs = keras.Input((4, 4, 1))
    network = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Flatten()(keras.layers.Conv2D(2, 3)(inputs))))
    saved.save(network, folder / "run.h5")
    network.save_weights(folder / "keras.h5")
    save_file(arrays, folder / "x.safetensors")
    torch_zip(arrays, folder / "zip.pth")
    torch_stream(arrays, folder / "stream.pth")
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.slow
def test_any_bytes_are_arrays_or_one_line(tmp_path, capsys) -> None:
    (tmp_path / "good").mkdir()
    files = originals(tmp_path / "good")
    numbers, folder = random.Random(0), tmp_path / "bad"
    folder.mkdir()
    (folder / "whole.h5").write_bytes(files["run.h5"])
    for i in range(MUTATIONS):
        name = list(files)[i % len(files)]
        (folder / f"{i:03d}{name}").write_bytes(mutated(files[name], numbers))
    script = READ.replace("SECONDS", str(SECONDS)).replace("MEGABYTES", str(MEGABYTES))
    child = subprocess.run([sys.executable, "-c", script, str(folder)], capture_output=True, text=True, check=False)
    bad = child.stdout.splitlines() + [f"status {child.returncode}: {child.stderr[-300:]}"] * (child.returncode != 0)
    with capsys.disabled():
        print(
            f"\n{MUTATIONS} mutated files of weights: {child.stderr.strip()[-8:].strip()} of memory, {len(bad)} bad"
        )
    assert not bad
