"""Damage, disks and odd surroundings: one line with the remedy, and nothing is lost."""

import errno
import io
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from tfcompact import files
from tfcompact.cli import main as command_line
from tfcompact.errors import DamagedFile, UserError, of_the_system
from tfcompact.pipeline.target import Target
from tfcompact.runs import scan, store

RUN = {"parent": None, "stage": "fit"}


def measurement(root: Path, name: str = "x") -> Path:
    path = root / "net" / "measurements" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{}")
    return path


def scanned(root: Path, read=scan.read_json) -> scan.Scan:
    return scan.scan(root, "*/measurements/*.json", read)


def test_a_pipe_in_the_place_of_a_measurement_is_not_waited_for(tmp_path) -> None:
    os.mkfifo(measurement(tmp_path).with_name("pipe.json"))
    found = scanned(tmp_path)
    assert len(found.rows) == 1
    assert "pipe.json cannot be used (it is no file); remove it, then: make measure MODEL=net" in found.damaged[0]


@pytest.mark.parametrize("number", ["1e400", "-1e400", "NaN", "Infinity"])
def test_numbers_that_are_none_are_damage(number: str, tmp_path) -> None:
    measurement(tmp_path).write_text(f'{{"a": {number}}}')
    assert "is no finite number" in scanned(tmp_path).damaged[0]


def test_the_damaged_file_is_to_be_removed_not_the_one_that_needs_it(tmp_path) -> None:
    with store.recording(tmp_path, "net", "export", RUN, {}):
        pass
    (run,) = store.finished(tmp_path)
    (run.path / "provenance.json").write_text("{")
    measurement(tmp_path)
    (line,) = scanned(tmp_path, lambda file: store.Run(run.path).provenance).damaged
    assert line.startswith(f"{run.path / 'provenance.json'} cannot be used (cannot be read as JSON")
    assert line.endswith(f"remove {run.path}, then run its stage again")


def test_what_is_renamed_meanwhile_is_not_damaged(tmp_path) -> None:
    measurement(tmp_path, "x")
    measurement(tmp_path, "y")

    def read(file: Path) -> object:
        file.unlink()
        raise FileNotFoundError(errno.ENOENT, "No such file", str(file))

    assert scanned(tmp_path, read) == scan.Scan((), ())


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        *((errno.ENOSPC, "make room"), (errno.EFBIG, "ulimit -f"), (errno.EROFS, "read-only")),
        *((errno.ENAMETOOLONG, "shorter"), (errno.EACCES, "give rights"), (errno.EIO, "what was finished stays")),
    ],
)
def test_what_the_system_refuses_is_one_line(number: int, remedy: str, monkeypatch, capsys) -> None:
    def run(*_: object) -> None:
        raise OSError(number, os.strerror(number), "runs/x")

    monkeypatch.setattr("tfcompact.cli.runs_command.run", run)
    assert command_line.main(["runs"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"tfcompact runs: runs/x: {os.strerror(number)}; ")
    assert remedy in line
    assert of_the_system(OSError("only text")).startswith("only text; ")


def command(*words: str, **options) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "tfcompact", *words], text=True, check=False, **options)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_output_that_cannot_be_written_is_one_line() -> None:
    with Path("/dev/full").open("w") as full:
        done = command("models", stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "No space left on device" in done.stderr


def test_a_user_without_a_home_is_told(tmp_path) -> None:
    if os.getuid() != 0:
        pytest.skip("needs root, to be a user without a name")
    environment = {k: v for k, v in os.environ.items() if k not in ("HOME", "XDG_CACHE_HOME")}
    code = "import os; from tfcompact.files import cache_directory; os.setuid(54321); cache_directory()"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1].endswith(
        "there is no home directory for the cache; set HOME, or give --cache"
    )


@pytest.mark.parametrize("option", ["runs", "cache", "data"])
def test_a_path_that_cannot_be_recorded_is_refused_at_the_start(option: str) -> None:
    path = os.fsdecode(b"photos\xff")
    with pytest.raises(UserError, match="is not UTF-8 and cannot be recorded"):
        Target(**{option: path if option == "data" else Path(path)})


def test_a_damaged_checkpoint_is_set_aside_and_the_training_begins_anew(tmp_path) -> None:
    from types import SimpleNamespace

    from tfcompact.training.checkpoint import State

    trainer = SimpleNamespace(
        network=SimpleNamespace(variables=[]), optimizer=SimpleNamespace(variables=[]), averages=[], hooks=[]
    )
    context = SimpleNamespace(scratch=tmp_path)
    stream = io.BytesIO()
    np.savez(stream, rows=np.array(json.dumps([{"epoch": 1}])), started_at=np.array("null"))
    whole = stream.getvalue()
    for content in (whole[:-30], whole[:10], b"x", whole.replace(b"e\0\0\0p", b"e\0\0\0q")):
        (tmp_path / "checkpoint.npz").write_bytes(content)
        with pytest.raises(UserError, match=r"checkpoint\.npz is damaged \(.*\) and was set aside; the same command"):
            State(trainer, context)
        assert (tmp_path / "checkpoint.damaged").read_bytes() == content
        assert State(trainer, context).rows == []


def test_a_lock_in_a_run_that_another_process_just_finished(tmp_path, monkeypatch) -> None:
    with store.recording(tmp_path, "net", "fit", RUN, {}):
        pass
    made = Path.mkdir

    def finished_by_another(self, *args, **options) -> None:
        made(self, *args, **options)
        if self.name.endswith(".partial"):
            self.rmdir()

    monkeypatch.setattr(Path, "mkdir", finished_by_another)
    with (
        pytest.raises(UserError, match="another process has just finished"),
        store.recording(tmp_path, "net", "fit", RUN, {}),
    ):
        pass


def test_two_who_write_one_file_do_not_write_into_each_other(tmp_path) -> None:
    path = tmp_path / "x.json"
    contents = [[i] * 20_000 for i in range(8)]
    threads = [threading.Thread(target=files.write_json, args=(path, content)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert json.loads(path.read_text()) in contents
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_a_damaged_file_names_itself() -> None:
    error = DamagedFile(Path("a/b.json"), "is empty", "remove it")
    assert (str(error), error.file) == ("a/b.json is empty; remove it", Path("a/b.json"))
