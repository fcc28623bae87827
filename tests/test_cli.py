"""The command line as a newcomer meets it."""

import subprocess
import sys
from pathlib import Path

import pytest

from tfcompact import stages
from tfcompact.cli import arguments, latency_table_command, main, measure_command, stage_command
from tfcompact.cli.commands import commands


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "tfcompact", *words], capture_output=True, text=True, timeout=120)


def refused(capsys, *words: str) -> str:
    """The one line that a refused command prints."""
    assert main.main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_help_lists_every_command_without_importing_tensorflow():
    code = "import sys; from tfcompact.cli.main import main; main(['--help']); sys.exit('tensorflow' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert shown.returncode == 0
    for command in commands():
        assert command in shown.stdout


@pytest.mark.parametrize("command", commands())
def test_every_command_explains_its_options(command):
    shown = run(command, "--help")
    assert shown.returncode == 0
    assert "tensorflow" not in shown.stderr
    if command in ("train", *stages.names(), "export", "measure"):
        assert "--data" in shown.stdout
        assert "tfds:NAME" in shown.stdout  # the help text, not only the flag


def test_models_lists_parameters_and_published_accuracy(capsys):
    assert main.main(["models", "--sort", "macs"]) == 0
    lines = capsys.readouterr().out.splitlines()
    first = next(line for line in lines if line.startswith("mobilenet_v3"))
    assert first.startswith("mobilenet_v3_small_0.75")
    assert any(line.split()[:5] == ["mobilenet_v2", "224", "3.54", "301", "71.8"] for line in lines)


def test_describe_goes_block_by_block_or_layer_by_layer(capsys):
    words = ["describe", "mobilenet_v2_0.35", "--classes", "10", "--px", "96"]
    for more, row in (([], "block6_0 "), (["--bits", "32"], "block6_0 "), (["--layers"], "block6_0_project ")):
        assert main.main([*words, *more]) == 0
        out = capsys.readouterr().out
        assert out.startswith("mobilenet_v2_0.35, 96 px, 10 classes")
        assert any(line.startswith(row) for line in out.splitlines())
        assert "423,018" in out  # 1,691,208 of the reference less 990 classes of 1,281 parameters each


def test_runs_says_what_to_type_where_there_are_none(tmp_path, capsys):
    main.main(["runs", "--runs", str(tmp_path)])
    printed = capsys.readouterr()
    assert "make train" in printed.out + printed.err


def test_a_wrong_command_suggests_the_nearest(capsys):
    assert refused(capsys, "trian") == "tfcompact trian: no command named 'trian'; did you mean train?"


def test_a_wrong_model_is_told_before_tensorflow_loads(capsys):
    line = refused(capsys, "fit", "--model", "mobilenetv2_0.35")
    assert line.endswith("no model named 'mobilenetv2_0.35'; did you mean mobilenet_v2_0.35 or mobilenet_v2_0.5?")


def test_an_interruption_promises_no_more_than_is_true(capsys, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    said = {}
    for command, module in (
        ("fit", stage_command),
        ("measure", measure_command),
        ("latency-table", latency_table_command),
    ):
        monkeypatch.setattr(module, "run", interrupted)
        assert main.main([command]) == 130
        said[command] = capsys.readouterr().err
    assert "the same command goes on from there" in said["fit"]
    assert said["fit"] == said["latency-table"]
    assert "the same command measures everything anew" in said["measure"]


def test_a_value_out_of_range_names_what_is_allowed(capsys):
    line = refused(capsys, "fit", "--label-smoothing", "1.5")
    assert line == "tfcompact fit: label_smoothing must be in [0, 1), not 1.5"


def test_a_misspelt_option_suggests_the_nearest(capsys):
    assert refused(capsys, "fit", "--epoch", "3").startswith("tfcompact fit: no option --epoch; did you mean ")


def test_a_value_of_another_type_is_one_line(capsys, tmp_path):
    assert "abc" in refused(capsys, "fit", "--epochs", "abc")
    assert refused(capsys, "train", "--runs", str(tmp_path), "--set", "fit.epochs=abc").endswith(
        "fit.epochs must be int, not 'abc'"
    )
    assert "--help lists them" in refused(capsys, "describe")


@pytest.mark.slow
def test_the_main_job_ends_with_the_file_for_an_app(capfd, tmp_path):
    words = ["--model", "mobilenet_v2_0.35", "--px", "32", "--epochs", "12", "--runs", str(tmp_path)]
    assert main.main(["train", *words, "--set", "quantize.epochs=1", "fit.augment.crop=false"]) == 0
    out = capfd.readouterr().out
    file = Path(next(line for line in out.splitlines() if line.startswith("the file for an app: ")).split(": ")[1])
    assert file.name == "model.uint8.tflite"
    assert file.is_file()
    assert Path(out.splitlines()[-1]) == file.parent
    assert (tmp_path / "report" / "pareto.png").is_file()
    assert "epoch 12/12" in out
    assert "left" in out  # the time to go


def test_a_folder_that_is_not_there(capsys, tmp_path):
    line = refused(capsys, "fit", "--data", str(tmp_path / "photos"), "--runs", str(tmp_path))
    assert "no folder" in line
    assert "digits" in line


def test_a_stage_without_its_parent_says_which_to_run(capsys, tmp_path):
    line = refused(capsys, "quantize", "--runs", str(tmp_path))
    assert line.endswith("try: make fit MODEL=mobilenet_v2")


@pytest.mark.parametrize("item", ["epochs=3", "fit.epochs", "fit=3"])
def test_set_shows_its_form(capsys, item, tmp_path):
    assert "fit.epochs=30" in refused(capsys, "train", "--runs", str(tmp_path), "--set", item)


def test_set_reads_toml_values():
    overrides: dict = {}
    for item in ("fit.epochs=3", "fit.learning_rate=1e-3", "fit.optimizer=sgd", "quantize.class_weights=true"):
        arguments.add_override(overrides, item)
    assert overrides == {
        "fit": {"epochs": 3, "learning_rate": 1e-3, "optimizer": "sgd"},
        "quantize": {"class_weights": True},
    }


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ("measure", "--device", "phone"),
            "Expected one of ('host', 'android', 'emulated'); tfcompact measure --help",
        ),
        (
            ("measure", "--threads", "a", "b"),
            "Could not find valid parse for arguments: ['a', 'b']; tfcompact measure",
        ),
    ],
)
def test_a_long_complaint_is_not_cut_where_the_parser_wraps_it(capsys, words, line) -> None:
    assert main.main(words) == 2
    said = capsys.readouterr().err
    assert line in said
    assert said.count("\n") == 1
