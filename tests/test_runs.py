"""Run directories: whole or absent, found again by what made them, never written by two at once."""

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tfcompact import files
from tfcompact.errors import DamagedFile, UserError
from tfcompact.records.artifact import Artifact, Normalization
from tfcompact.runs import lineage, measurements, store

INPUTS = {"parent": None, "stage": "fit", "config": {"epochs": 3, "ema": 0.9}, "data": "d1", "px": 96, "seed": 0}
FACTS = {"data": {"name": "digits"}}


def make(root: Path, model: str = "net", stage: str = "fit", facts: Mapping[str, Any] = FACTS, **inputs) -> store.Run:
    merged = INPUTS | {"stage": stage} | inputs
    with store.recording(root, model, stage, merged, facts) as directory:
        (directory / "result").write_text("whole")
    return store.find(root, model, f"{stage}-{store.key(merged)}")


def test_a_finished_run_holds_everything_and_nothing_else(tmp_path) -> None:
    with store.recording(tmp_path, "net", "fit", INPUTS, {"data": {"name": "digits"}}) as directory:
        assert directory.name.endswith(".partial")
        (directory / "scratch").mkdir()
        (directory / "scratch/checkpoint").write_text("x")
        (directory / "result").write_text("whole")
        assert not store.finished(tmp_path)
    (run,) = store.finished(tmp_path)
    assert sorted(p.name for p in run.path.iterdir()) == ["provenance.json", "result"]
    assert [p.name for p in run.path.parent.iterdir()] == [run.name]
    assert (run.model, run.stage, run.name) == ("net", "fit", f"fit-{store.key(INPUTS)}")
    assert (run.parent, run.chain, run.artifacts, run.notes) == (None, (run,), (), {})


def test_provenance_says_what_made_it(tmp_path) -> None:
    provenance = make(tmp_path).provenance
    assert provenance["inputs"] == INPUTS
    assert provenance["data"] == {"name": "digits"}
    assert provenance["started"] <= provenance["finished"]
    assert provenance["seconds"] >= 0
    assert {"python", "tensorflow", "ai-edge-litert"} <= set(provenance["versions"])
    assert provenance["machine"]
    git = provenance["git"]
    assert git is None or (len(git["commit"]) == 40 and isinstance(git["dirty"], bool))


def test_a_failure_leaves_a_partial_that_is_handed_out_again(tmp_path) -> None:

    def fail() -> None:
        with store.recording(tmp_path, "net", "fit", INPUTS, {}) as directory:
            (directory / "progress").write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert not store.finished(tmp_path)
    directory = tmp_path / f"net/fit-{store.key(INPUTS)}.partial"
    assert directory.is_dir()
    with store.recording(tmp_path, "net", "fit", INPUTS, {}) as again:
        assert again == directory
        assert (again / "progress").read_text() == "half"
    assert not directory.exists()
    assert (store.finished(tmp_path)[0].path / "progress").is_file()


def test_a_killed_process_leaves_a_partial_that_resumes(tmp_path) -> None:
    script = f"""
        import os, signal
        from pathlib import Path
        from tfcompact.runs import store
        with store.recording(Path({str(tmp_path)!r}), "net", "fit", {INPUTS!r}, {{}}) as directory:
            (directory / "progress").write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)
    """
    assert subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=False).returncode == -9
    assert not store.finished(tmp_path)
    with store.recording(tmp_path, "net", "fit", INPUTS, {}) as directory:  # its lock died with it
        assert (directory / "progress").read_text() == "half"
    assert len(store.finished(tmp_path)) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"parent": "fit-00000000"},
        {"stage": "quantize"},
        {"config": {"epochs": 4, "ema": 0.9}},
        {"config": {"epochs": 3, "ema": 0.9, "new": 1}},
        {"data": "d2"},
        {"px": 128},
        {"seed": 1},
    ],
    ids=lambda change: next(iter(change)),
)
def test_the_key_changes_with_each_input(change) -> None:
    assert store.key(INPUTS | change) != store.key(INPUTS)


def test_the_key_does_not_depend_on_the_order() -> None:
    assert store.key(dict(reversed(INPUTS.items()))) == store.key(INPUTS)
    assert len(store.key(INPUTS)) == 8


def test_a_second_writer_is_refused(tmp_path) -> None:
    with (
        store.recording(tmp_path, "net", "fit", INPUTS, {}),
        pytest.raises(UserError, match=r"another process is working on .*\.partial; wait for it, or stop it first"),
        store.recording(tmp_path, "net", "fit", INPUTS, {}),
    ):
        pass
    assert len(store.finished(tmp_path)) == 1


def test_other_runs_may_be_written_meanwhile(tmp_path) -> None:
    with store.recording(tmp_path, "net", "fit", INPUTS, {}):
        make(tmp_path, seed=1)
        make(tmp_path, model="other")
    assert len(store.finished(tmp_path)) == 3


def test_a_run_that_another_process_finished_meanwhile_is_not_lost(tmp_path) -> None:
    """Asked for twice at once, the second finds it done: a UserError or the same run, no other exception."""
    first = make(tmp_path)
    try:
        with store.recording(tmp_path, "net", "fit", INPUTS, {}) as directory:
            (directory / "result").write_text("again")
    except UserError:
        pass
    assert (first.path / "result").read_text() == "whole"
    assert [run.name for run in store.finished(tmp_path)] == [first.name]


def test_runs_are_listed_oldest_first_by_model_and_stage(tmp_path) -> None:
    names = [make(tmp_path, seed=seed).name for seed in range(3)]
    other = make(tmp_path, model="net_2").name
    quantized = make(tmp_path, stage="quantize", parent=names[0]).name
    assert [run.name for run in store.finished(tmp_path)] == [*names, other, quantized]
    assert [run.name for run in store.finished(tmp_path, "net", "fit")] == names
    assert [run.name for run in store.finished(tmp_path, "net_2")] == [other]
    assert store.finished(tmp_path / "nowhere") == []


def test_newest_is_the_last_that_is_wanted(tmp_path) -> None:
    fit = [make(tmp_path, seed=seed).name for seed in range(2)]
    quantized = make(tmp_path, stage="quantize", parent=fit[0])
    assert store.newest(tmp_path, "net", lambda run: run.stage == "fit") == store.Run(tmp_path / "net" / fit[1])
    assert store.newest(tmp_path, "net", lambda run: True) == quantized
    assert store.newest(tmp_path, "net", lambda run: False) is None
    assert [run.name for run in quantized.chain] == [fit[0], quantized.name]


def test_a_name_that_is_not_there_gets_the_list_of_those_that_are(tmp_path) -> None:
    with pytest.raises(UserError, match=r"no finished run net/fit-123 under .*; there are: none$"):
        store.find(tmp_path, "net", "fit-123")
    name = make(tmp_path).name
    with pytest.raises(UserError, match=f"there are: {name}$"):
        store.find(tmp_path, "net", "fit-123")


def test_a_partial_is_never_a_result(tmp_path) -> None:
    directory = tmp_path / "net/fit-00c0ffee.partial"
    directory.mkdir(parents=True)
    (directory / "provenance.json").write_text("{}")  # killed between writing and renaming
    assert store.finished(tmp_path) == []
    with pytest.raises(UserError, match="there are: none"):
        store.find(tmp_path, "net", "fit-00c0ffee.partial")


NOT_A_RUN = [
    *("", "{", "\x00", "[]", "3", "{}", "[" * 100_000),
    *('{"inputs": {"parent": 3}, "finished": "x"}', '{"inputs": {"parent": null}}'),
]


@pytest.mark.parametrize("content", NOT_A_RUN, ids=range(len(NOT_A_RUN)))
def test_a_damaged_run_is_told_and_the_others_go_on(content: str, tmp_path, caplog) -> None:
    damaged, whole = make(tmp_path), make(tmp_path, seed=1)
    (damaged.path / "provenance.json").write_text(content)
    assert store.finished(tmp_path) == [whole]
    assert "provenance.json" in caplog.text
    assert "the run is damaged, remove its directory" in caplog.text
    with pytest.raises(DamagedFile, match=r"provenance\.json .*; the run is damaged, remove its directory"):
        damaged.px  # noqa: B018


def test_a_run_that_came_from_itself_is_told(tmp_path) -> None:
    first = make(tmp_path)
    second = make(tmp_path, stage="quantize", parent=first.name)
    provenance = first.path / "provenance.json"
    content = json.loads(provenance.read_text())
    for parent in (first.name, second.name):
        content["inputs"]["parent"] = parent
        provenance.write_text(json.dumps(content))
        with pytest.raises(DamagedFile, match="came from itself"):
            store.Run(second.path).chain  # noqa: B018


def test_the_newest_is_the_newest_whatever_the_clock_says(tmp_path, monkeypatch) -> None:
    names = [make(tmp_path).name]
    for year in (2001, 1999):
        monkeypatch.setattr(store, "_now", lambda year=year: f"{year}-01-01T00:00:00.000000+00:00")
        names.append(make(tmp_path, seed=year).name)
    assert [run.name for run in store.finished(tmp_path)] == names


@pytest.mark.parametrize("content", ["[]", "{}", "null"])
def test_an_export_without_files_is_damaged(content: str, tmp_path) -> None:
    run = make(tmp_path, stage="export")
    (run.path / "artifacts.json").write_text(content)
    with pytest.raises(DamagedFile, match=r"artifacts\.json names no files"):
        store.Run(run.path).artifacts  # noqa: B018


def test_what_a_kill_after_the_end_has_left_goes(tmp_path) -> None:
    run = make(tmp_path)
    (run.path / "scratch").mkdir()
    (run.path / "scratch/checkpoint.npz").write_bytes(b"x")
    (run.path / ".lock").touch()
    store.tidy(run.path)
    assert sorted(path.name for path in run.path.iterdir()) == ["provenance.json", "result"]


def test_temporary_files_of_killed_writers_go_when_they_are_old(tmp_path) -> None:
    old, young, other = (tmp_path / name for name in (".x.json.7-ab.tmp", ".x.json.8-cd.tmp", ".y.json.7-ab.tmp"))
    for path in (old, young, other):
        path.touch()
    for path in (old, other):
        os.utime(path, (0, 0))
    files.write_json(tmp_path / "x.json", 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == [young.name, other.name, "x.json"]
    files.write_text(tmp_path / f"{'ü' * 120}.json", "a name of nearly 255 bytes")


def test_json_files_are_replaced_whole(tmp_path) -> None:
    path = tmp_path / "x.json"
    files.write_json(path, {"å": [1]})
    with pytest.raises(TypeError):
        files.write_json(path, {"å": object()})
    assert json.loads(path.read_text()) == {"å": [1]}


def test_measurements_are_found_again_and_replaced(tmp_path) -> None:
    from tfcompact.records.device import Device
    from tfcompact.records.measurement import SCHEMA, Measurement

    row = Measurement(
        *(SCHEMA, "net", "export-1", "model.int8.tflite", "ab" * 32, 10, "int8", 96),
        *(Device("host", "host-x", "X", 2, "Linux"), "litert", "xnnpack", 1, 5, (1.0,), (1.0,)),
        *(None, None, None, None, None, "2020-01-01T00:00:00+00:00"),
    )
    path = measurements.save_measurement(tmp_path, row)
    assert path == measurements.save_measurement(tmp_path, row)
    assert measurements.measurements(tmp_path) == measurements.measurements(tmp_path, "net") == [row]
    assert measurements.measurements(tmp_path, "other") == []


@pytest.fixture
def chain(tmp_path) -> list[store.Run]:
    """Runs of stages that nothing knows by name, each from the one before; the last one gives files alone."""
    runs: list[store.Run] = []
    for stage, gives in (("teach", "float"), ("shrink", "float"), ("round", "quantized"), ("ship", None)):
        facts = FACTS | ({"gives": gives} if gives else {})
        runs.append(make(tmp_path, stage=stage, facts=facts, parent=runs[-1].name if runs else None))
    (runs[-1].path / "artifacts.json").write_text(json.dumps([ARTIFACT.to_json()]))
    return runs


ARTIFACT = Artifact("net", "ship", "model.int8.tflite", "int8", "ab" * 32, 10, 96, 2, Normalization())


def test_what_a_run_holds_is_recorded(chain) -> None:
    assert [lineage.network(run) for run in chain] == ["float", "float", "quantized", None]
    assert [lineage.float_source(run).stage for run in chain] == ["teach", "shrink", "shrink", "shrink"]


def test_a_file_is_made_by_the_stages_up_to_the_network_it_holds(chain, tmp_path) -> None:
    assert lineage.made_by(chain[-1], "int8", tmp_path) == "teach, shrink, round"
    assert lineage.made_by(chain[-1], "float32", tmp_path) == "teach, shrink"
    assert lineage.made_by(store.Run(tmp_path / "net/ship-00000000"), "int8", tmp_path) == ""


def test_runs_older_than_the_record_say_it_by_their_notes(tmp_path) -> None:
    first = make(tmp_path)
    second = make(tmp_path, stage="quantize", parent=first.name)
    (second.path / "notes.json").write_text('{"ranges": {}}')
    assert [lineage.network(run) for run in (first, second)] == ["float", "quantized"]


def test_a_damaged_chain_that_leads_in_a_circle_ends(tmp_path) -> None:
    run = make(tmp_path)
    file = run.path / "provenance.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"inputs": INPUTS | {"parent": run.name}}))
    assert len(lineage.ancestors(run, tmp_path)) == lineage.LONGEST
