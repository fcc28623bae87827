"""A stage is one file and one line: one that lies in the tests goes through everything that knows stages."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
import fake_stage

from tfcompact import stages
from tfcompact.cli.main import main
from tfcompact.errors import UserError
from tfcompact.export import gate
from tfcompact.pipeline.pipeline import Pipeline
from tfcompact.pipeline.recipe import configured
from tfcompact.pipeline.target import Target
from tfcompact.report import report_files
from tfcompact.runs import lineage, store

MODEL = "mobilenet_v1_0.25"  # few layers: this is about stages
SHORT = {"epochs": 1, "batch": 32, "epoch_images": 64, "validation_images": 30, "norm_batches": 0}
WORDS = [f"--{name.replace('_', '-')}={value}" for name, value in SHORT.items()]
LENIENT = {"largest_loss": 100.0, "least_agreement": 0.0, "images": 20, "samples": 1}
REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def _installed(monkeypatch):
    monkeypatch.setattr(stages, "STAGES", (*stages.STAGES, fake_stage.ENTRY))


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A runs directory in which a recipe has gone through the stage twice, to exported files and measurements."""
    folder = tmp_path_factory.mktemp("whole")
    recipe = folder / "twice.toml"
    steps = ("fit", ""), ("mask", ""), ("mask", 'id = "again"\n'), ("quantize", "")
    recipe.write_text(
        "".join(f'[[stage]]\nname = "{name}"\n{id}[stage.config]\n{_toml(SHORT)}' for name, id in steps)
    )
    before = stages.STAGES
    fake_stage.install()
    try:
        exporting = {**LENIENT, "formats": ["uint8", "float32"]}
        options = {
            "again": {"layer": "block4_1_pointwise"},
            "export": exporting,
            "measure": {"min_seconds": 0, "images": 10},
        }
        Pipeline(Target(MODEL, px=32, runs=folder / "runs")).train(str(recipe), options)
    finally:
        stages.STAGES = before
    return folder / "runs"


def _toml(values: dict) -> str:
    return "".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items())


def made(root: Path, stage: str) -> list[store.Run]:
    return store.finished(root, MODEL, stage)


def test_a_recipe_takes_it_twice_each_with_its_options(root) -> None:
    first, second = made(root, "mask")
    assert [run.provenance["inputs"]["config"]["layer"] for run in (first, second)] == ["stem", "block4_1_pointwise"]
    assert second.parent == first
    assert first.provenance["inputs"]["version"] == 1
    assert [run.stage for run in made(root, "export")[0].chain] == ["fit", "mask", "mask", "quantize", "export"]


def test_each_of_its_networks_has_a_log_of_its_own_and_no_checkpoint_left(root) -> None:
    run = made(root, "mask")[0]
    assert sorted(path.name for path in (run.path / "parts").iterdir()) == ["seed-0", "seed-1"]
    assert all((run.path / "parts" / name / "metrics.csv").is_file() for name in ("seed-0", "seed-1"))
    assert not list(run.path.rglob("checkpoint.npz"))


def test_what_it_masked_stays_masked_in_the_average_that_is_kept(root) -> None:
    kernel = Pipeline(Target(MODEL, runs=root)).load(made(root, "mask")[0]).get_layer("stem").get_weights()[0]
    assert np.mean(kernel == 0) >= 0.5


def test_quantize_and_export_take_its_network(root) -> None:
    second, quantized, exported = made(root, "mask")[1], made(root, "quantize")[0], made(root, "export")[0]
    assert quantized.parent == second
    assert lineage.float_source(exported) == second
    assert {a.format for a in exported.artifacts} == {"uint8", "float32"}
    assert lineage.made_by(exported, "uint8", root) == "fit, mask, mask, quantize"
    assert lineage.made_by(exported, "float32", root) == "fit, mask, mask"


def test_the_card_and_the_report_tell_of_it(root) -> None:
    card = (made(root, "export")[0].path / "model_card.md").read_text()
    assert "half of stem held at zero, seed 0" in card
    assert "half of block4_1_pointwise held at zero" in card
    assert {row.made_by for row in report_files.rows(root)} == {"fit, mask, mask, quantize", "fit, mask, mask"}


def test_the_command_line_has_it(root, capsys) -> None:
    assert main(["--help"]) == 0
    assert "Train with half of the weights" in " ".join(capsys.readouterr().out.split())
    assert main(["runs", "--runs", str(root)]) == 0
    assert "mask-" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["mask", "--help"])
    assert "--layer" in capsys.readouterr().out
    # By default on the newest float network that it did not make itself.
    assert main(["mask", "--model", MODEL, "--runs", str(root), "--layer", "block1_0_pointwise", *WORDS]) == 0
    run = store.Run(Path(capsys.readouterr().out.splitlines()[-1]))
    assert run.parent is not None
    assert run.parent.stage == "fit"


def test_another_architecture_can_be_its_teacher(root) -> None:
    other = Pipeline(Target("mobilenet_v1_0.25", px=32, runs=root))
    teacher = other.run(configured("fit", {**SHORT, "epochs": 0}))
    line = Pipeline(Target(MODEL, runs=root))
    config = fake_stage.Config(**SHORT, teacher=f"mobilenet_v1_0.25/{teacher.name}")
    run = line.run(config)
    assert run.notes["teacher"] == [f"mobilenet_v1_0.25/{teacher.name}", 32, [str(i) for i in range(10)]]
    assert run.provenance["inputs"]["loads"] == {config.teacher: teacher.name}
    with pytest.raises(UserError, match="no finished run mobilenet_v1_0.25/fit-00000000"):
        line.run(fake_stage.Config(**SHORT, teacher="mobilenet_v1_0.25/fit-00000000"))


def test_the_app_lists_its_files(root, monkeypatch) -> None:
    from streamlit.testing.v1 import AppTest

    monkeypatch.setenv("TFCOMPACT_RUNS", str(root))
    monkeypatch.setattr(sys, "argv", ["streamlit"])
    page = AppTest.from_file(str(REPOSITORY / "streamlit_app" / "app.py"), default_timeout=120).run()
    assert not page.exception
    assert MODEL in str(page.main)


def test_make_has_a_target_for_it() -> None:
    told = subprocess.run(
        ["make", "-n", "mask", f"MODEL={MODEL}"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert f"-m tfcompact mask --model {MODEL}" in told.stdout


def test_changed_code_hands_out_no_old_run(root, monkeypatch) -> None:
    line = Pipeline(Target(MODEL, runs=root))
    before = made(root, "mask")[0]
    again = line.run(fake_stage.Config(**SHORT), before.parent.name)
    assert again == before
    newer = fake_stage.STAGE.__class__(**(vars(fake_stage.STAGE) | {"version": 2}))
    monkeypatch.setattr(fake_stage, "STAGE", newer)
    assert line.run(fake_stage.Config(**SHORT), before.parent.name).path != before.path


def test_a_config_of_no_stage_and_a_parent_of_the_wrong_kind_are_one_line(root) -> None:
    line = Pipeline(Target(MODEL, runs=root))
    with pytest.raises(UserError, match=r"gate\.Config is no stage's config"):
        line.run(gate.Config())
    with pytest.raises(UserError, match="holds a quantized network; mask takes a float one"):
        line.run(fake_stage.Config(**SHORT), made(root, "quantize")[0].name)
    with pytest.raises(UserError, match="holds files, not a network"):
        line.run(fake_stage.Config(**SHORT), made(root, "export")[0].name)


@pytest.mark.slow
def test_killed_in_its_second_part_it_goes_on_with_the_same_bits(root, tmp_path) -> None:
    """By kill -9, in a process of its own; the part that was finished is not trained again."""
    fit = made(root, "fit")[0]
    words = ["mask", "--model", MODEL, "--parent", fit.name, "--seed", "3", *WORDS, "--epochs=2"]
    outcomes = []
    for place, disturbed in (("whole", False), ("killed", True)):
        runs = tmp_path / place
        target = runs / MODEL
        target.mkdir(parents=True)
        (target / fit.name).symlink_to(fit.path)
        command = [sys.executable, str(REPOSITORY / "tests" / "fake_stage.py"), *words, "--runs", str(runs)]
        env = os.environ | {"PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests")])}
        if disturbed:
            child = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, start_new_session=True)
            second = "scratch/seed-1/checkpoint.npz"
            end = time.monotonic() + 300
            while not list(target.glob(f"mask-*.partial/{second}")) and time.monotonic() < end:
                time.sleep(0.05)
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            assert list(target.glob(f"mask-*.partial/{second}"))
        told = subprocess.run(command, env=env, capture_output=True, text=True, check=True, timeout=600)
        if disturbed:
            assert "seed-0: goes on after epoch 2 of 2" in told.stdout
        run = store.Run(Path(told.stdout.splitlines()[-1]))
        weights = Pipeline(Target(MODEL, runs=runs)).load(run.name).get_weights()
        digest = hashlib.sha256(b"".join(w.tobytes() for w in weights)).hexdigest()
        outcomes.append((run.name, digest, run.notes, (run.path / "parts/seed-1/metrics.csv").read_text()))
    assert outcomes[0] == outcomes[1]
