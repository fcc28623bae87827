"""`kill -9` in the middle of epochs, again and again, and the same bits in the end.

    python tests/benchmarks/kill_and_resume.py [--model mobilenet_v2_0.35] [--stage fit] [--epochs 4] [--kills 3]

Trains once undisturbed and once with the process killed at random moments and started again with the same command,
then compares metrics.csv and every weight. Exits 1 where they differ.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import h5py


def start(options: argparse.Namespace, runs: Path) -> subprocess.Popen[str]:
    words = ["--model", options.model, "--data", options.data, "--runs", str(runs), "--epochs", str(options.epochs)]
    command = [sys.executable, "-m", "tfcompact", options.stage, *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finished(process: subprocess.Popen[str]) -> Path:
    output, _ = process.communicate()
    if process.returncode != 0:
        sys.exit(output)
    return Path(output.splitlines()[-1])


def weights(run: Path) -> str:
    """One sha256 over the names and bytes of every weight."""
    digest = hashlib.sha256()
    with h5py.File(run / "model.h5") as file:
        file["model_weights"].visititems(
            lambda name, item: (
                digest.update(name.encode() + item[()].tobytes()) if isinstance(item, h5py.Dataset) else None
            )
        )
    return digest.hexdigest()[:16]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mobilenet_v2_0.35")
    parser.add_argument("--data", default="digits")
    parser.add_argument("--stage", default="fit", choices=("fit", "quantize"))
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0, help="of the moments at which it is killed")
    options = parser.parse_args()
    moments = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        calm, rough = Path(folder, "calm"), Path(folder, "rough")
        if options.stage == "quantize":  # both start from one fit run
            first = argparse.Namespace(**vars(options) | {"stage": "fit", "epochs": 1})
            finished(start(first, calm))
            shutil.copytree(calm, rough)
        undisturbed = finished(start(options, calm))
        print(f"undisturbed: weights {weights(undisturbed)}")
        for kill in range(options.kills):
            process = start(options, rough)
            assert process.stdout is not None
            for line in process.stdout:  # wait for an epoch to end, then for some moment within the next
                if "left" in line:
                    break
            time.sleep(moments.uniform(0, 3))
            alive = process.poll() is None
            process.send_signal(signal.SIGKILL)
            process.wait()
            partial = next(rough.glob(f"*/{options.stage}-*.partial"), None)
            rows = len((partial / "metrics.csv").read_text().splitlines()) - 1 if partial else options.epochs
            print(
                f"kill {kill + 1}: {'killed' if alive else 'had ended'} with {rows} of {options.epochs} epochs done"
            )
        resumed = finished(start(options, rough))
        print(f"resumed:     weights {weights(resumed)}")
        same = (
            weights(undisturbed) == weights(resumed)
            and (undisturbed / "metrics.csv").read_bytes() == (resumed / "metrics.csv").read_bytes()
        )
        print("metrics.csv and all weights are identical" if same else "THEY DIFFER")
        sys.exit(not same)


if __name__ == "__main__":
    main()
