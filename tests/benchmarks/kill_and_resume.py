"""`kill -9` in the middle of epochs, again and again, and the same bits in the end.

    python tests/benchmarks/kill_and_resume.py [--model mobilenet_v2_0.35] [--stage fit] [--epochs 3] [--kills 3]

Trains once undisturbed and once with the process killed at random moments and started again with the same command,
then compares metrics.csv and every weight. Exits 1 where they differ. Each stage is a part of the record.
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
from recorded import tables
from recorded.arguments import Arguments
from recorded.record import Book, recording


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


def main() -> int:
    arguments = Arguments(__file__, __doc__)
    arguments.add_argument("--model", default="mobilenet_v2_0.35")
    arguments.add_argument("--data", default="digits")
    arguments.add_argument("--stage", default="fit", choices=("fit", "quantize"))
    arguments.add_argument("--epochs", type=int, default=3)
    arguments.add_argument("--kills", type=int, default=3)
    arguments.add_argument("--seed", type=int, default=0, help="of the moments at which it is killed")
    options = arguments.parse_args()
    with recording(arguments.call(options), options.stage) as book, tempfile.TemporaryDirectory() as folder:
        same = compare(options, Path(folder), book)
    print(tables.markdown(tables.of("kill_and_resume"), book.tables["rows"]))
    print("metrics.csv and all weights are identical" if same else "THEY DIFFER")
    return int(not same)


def compare(options: argparse.Namespace, folder: Path, book: Book) -> bool:
    """Whether both ways end with the same bits."""
    calm, rough = folder / "calm", folder / "rough"
    if options.stage == "quantize":  # both start from one fit run
        first = argparse.Namespace(**vars(options) | {"stage": "fit", "epochs": 1})
        finished(start(first, calm))
        shutil.copytree(calm, rough)
    undisturbed = finished(start(options, calm))
    facts = {"stage": options.stage, "model": options.model, "epochs": options.epochs}
    book.add(what="undisturbed", epochs_done=options.epochs, weights=weights(undisturbed), **facts)
    moments = random.Random(options.seed)
    for kill in range(options.kills):
        alive, done = killed(options, rough, moments)
        what = f"kill {kill + 1}{'' if alive else ', after it had ended'}"
        book.add(what=what, epochs_done=done, weights="", **facts)
    resumed = finished(start(options, rough))
    book.add(what="started again", epochs_done=options.epochs, weights=weights(resumed), **facts)
    metrics = [(run / "metrics.csv").read_bytes() for run in (undisturbed, resumed)]
    same = weights(undisturbed) == weights(resumed) and metrics[0] == metrics[1]
    book.add("compared", stage=options.stage, identical=same)
    return same


def killed(options: argparse.Namespace, runs: Path, moments: random.Random) -> tuple[bool, int]:
    """Starts the command and kills it some time after an epoch: whether it was still alive, and epochs done."""
    process = start(options, runs)
    assert process.stdout is not None
    for line in process.stdout:  # wait for an epoch to end, then for some moment within the next
        if "left" in line:
            break
    time.sleep(moments.uniform(0, 3))
    alive = process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    partial = next(runs.glob(f"*/{options.stage}-*.partial"), None)
    return alive, len((partial / "metrics.csv").read_text().splitlines()) - 1 if partial else options.epochs


if __name__ == "__main__":
    sys.exit(main())
