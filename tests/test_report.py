"""Reports of an invented runs directory: what the tables say, and what a damaged file does to them."""

import csv
import io
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import get_args

import fake_runs
import pytest
from rich.console import Console

from tfcompact.errors import UserError
from tfcompact.records import formats
from tfcompact.records.device import DeviceKind
from tfcompact.report import csv_file, measured_rows, plot_style, plots, report_files, run_columns, setting, terminal
from tfcompact.report import markdown as markdown_module
from tfcompact.report.point_labels import place_labels
from tfcompact.report.table_columns import Column
from tfcompact.runs import exports, history, measurements


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """An undamaged runs directory that no test writes into."""
    root = tmp_path_factory.mktemp("whole") / "runs"
    fake_runs.build(root)
    return root


@pytest.fixture
def root(whole, tmp_path) -> Path:
    """A runs directory of one's own, to damage."""
    return Path(shutil.copytree(whole, tmp_path / "runs"))


def text(show, width: int = 200) -> str:
    console = Console(width=width, file=io.StringIO())
    show(console)
    return console.file.getvalue()


def a_measurement(root: Path) -> Path:
    return sorted(root.glob("mobilenet_v2/measurements/*.json"))[0]


def change(file: Path, **values) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def test_rows_hold_what_was_measured(whole):
    rows = report_files.rows(whole, "mobilenet_v2")
    row = next(r for r in rows if r.format == "uint8" and r.setting.threads == 1)
    samples = next(
        m for m in measurements.measurements(whole, "mobilenet_v2") if m.format == "uint8" and m.threads == 1
    )
    assert (row.size_mb, row.top1, row.parameters, row.macs) == (2.6, 0.757, 2_257_984, 300_774_272)
    assert row.key == samples.key
    assert (row.p50_ms, row.p99_ms) == (samples.percentile_ms(50), samples.percentile_ms(99))
    assert {(r.format, r.made_by) for r in rows} == {("float32", "fit"), ("uint8", "fit, quantize")}
    assert row.setting.images_text == "634 test images of colours (5b1f0c77)"
    assert {r.model for r in rows} == {"mobilenet_v2"}


def test_settings_that_do_not_compare_are_apart(whole):
    groups = measured_rows.by_setting(report_files.rows(whole))
    assert [where.threads for where in groups] == [1, 2]


def test_front_is_what_nothing_beats(whole):
    (_, group), *_ = measured_rows.by_setting(report_files.rows(whole)).items()
    front = measured_rows.pareto_front(group)
    for row in group:
        beaten = any(o.p50_ms < row.p50_ms and o.top1 > row.top1 for o in group)
        assert not (beaten and row in front)
        assert row in front or any(o.p50_ms <= row.p50_ms and o.top1 >= row.top1 for o in front)
    assert [r.p50_ms for r in front] == sorted(r.p50_ms for r in front)


def test_report_is_written_whole(whole, tmp_path):
    paths = report_files.write(whole, out=tmp_path)
    assert [p.name for p in paths] == ["report.md", "report.csv", "pareto.png"]
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(p.name for p in paths)  # and nothing half-written
    lines = list(csv.DictReader((tmp_path / "report.csv").open()))
    assert len(lines) == 18
    assert {line["threads"] for line in lines} == {"1", "2"}
    markdown = (tmp_path / "report.md").read_text()
    assert "not of a phone" in markdown
    assert "| mobilenet_v2 | uint8 | fit, quantize | 2.60 | 2.26 | 301 | 75.7 |" in markdown
    assert (tmp_path / "pareto.png").read_bytes().startswith(b"\x89PNG")


def test_report_of_one_model_leaves_the_report_of_all(root):
    everything = report_files.write(root)
    one = report_files.write(root, "mobilenet_v2")
    assert everything[0] == root / "report/report.md"
    assert one[0] == root / "report/mobilenet_v2/report.md"
    assert len(report_files.rows(root)) == 18  # reports are no measurements


def test_plot_without_accuracy_is_left_out_and_an_old_one_removed(root):
    assert (root / "report/pareto.png") in report_files.write(root)
    for file in root.glob("*/measurements/*.json"):
        change(file, accuracy=None)
    assert [p.name for p in report_files.write(root)] == ["report.md", "report.csv"]
    assert not (root / "report/pareto.png").exists()
    assert "pareto.png" not in (root / "report/report.md").read_text()


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_table_fits_the_terminal_and_says_what_it_leaves_out(whole, width):
    shown = text(lambda console: terminal.print_table(console, report_files.rows(whole)), width)
    assert max(len(line.rstrip()) for line in shown.splitlines()) <= width
    assert "mobilenet_v3_small" in shown
    assert "…" not in shown
    assert ("report.csv" in shown) == (width < 140)


def test_labels_cover_neither_points_nor_each_other(whole):
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    (where, group), *_ = measured_rows.by_setting(report_files.rows(whole)).items()
    figure = Figure(figsize=(9.6, 6.2), dpi=130)
    FigureCanvasAgg(figure)
    ax = figure.subplots()
    plots.panel(ax, where, group, plot_style.colours(r.model for r in group))
    figure.canvas.draw()
    labels = place_labels(ax, group)
    boxes = [label.get_window_extent() for label in labels]
    assert len(boxes) == len(group)
    for i, a in enumerate(boxes):
        assert not any(a.overlaps(b) for b in boxes[i + 1 :])
        assert not any(a.contains(*ax.transData.transform((r.p50_ms, 100 * r.top1))) for r in group)


def test_colours_do_not_depend_on_what_is_shown():
    assert plot_style.colours(["b", "a"]) == plot_style.colours(["a", "b", "a"])
    assert len(set(plot_style.colours("abcdefgh").values())) == 8


def test_every_format_has_a_shape_of_its_own():
    assert set(plot_style.SHAPES) == set(formats.FORMATS)
    for of_one_library in zip(*plot_style.SHAPES.values(), strict=True):
        assert len(set(of_one_library)) == len(formats.FORMATS)


def test_every_kind_of_device_has_its_words():
    assert set(setting.DEVICES) == set(get_args(DeviceKind))


def test_flags_of_a_measurement_are_shown(root):
    change(a_measurement(root), validity={"throttled": True, "busy": False})
    shown = text(lambda console: terminal.print_table(console, report_files.rows(root)))
    assert "throttled" in shown
    assert "busy" not in shown


def test_flags_that_all_rows_share_are_said_once(root):
    for file in root.glob("mobilenet_v2/measurements/*.json"):
        change(file, validity={"virtual_machine": True, "busy": False})
    rows = report_files.rows(root, "mobilenet_v2")
    shown = text(lambda console: terminal.print_table(console, rows))
    assert shown.count("Beware, all rows: virtual machine.") == 2  # one table for each number of threads
    assert shown.count("Beware") == 2
    assert markdown_module.markdown(rows, plot=False).count("virtual machine") == 2
    assert csv_file.as_csv(rows).count("virtual_machine") == len(rows)


def test_emulated_device_has_no_latency(root):
    device = {"kind": "emulated", "name": "cortex", "processor": "Cortex-A55", "cores": 1, "system": "QEMU"}
    proxy = {"device": device, "backend": "arm64_insn_proxy", "wall_ms": [], "process_ms": []}
    change(a_measurement(root), **proxy, instructions=1_338_285)
    row = next(r for r in report_files.rows(root) if r.setting.device_kind == "emulated")
    assert (row.p50_ms, row.p99_ms) == (None, None)
    shown = text(lambda console: terminal.print_table(console, [row]))
    assert "there is no latency" in shown
    assert "1.34" in shown
    assert "Instr M" in shown
    assert "p50 ms" not in shown
    assert row.setting.cost.text == "Instructions of one inference, in millions"
    assert row.point == (1.338285, 100 * row.top1)  # so it is on the plot, against instructions


def test_a_phone_with_a_summary_alone(root):
    device = {"kind": "android", "name": "android-pixel-8-1a2b", "processor": "Tensor G3", "cores": 9, "system": "15"}
    phone = {"device": device, "backend": "benchmark_model", "wall_ms": [], "process_ms": []}
    cold = {"load_ms": None, "compile_ms": 12.0, "first_ms": 3.5}
    change(a_measurement(root), **phone, summary={"count": 50, "p50_ms": 2.5}, cold=cold)
    row = next(r for r in report_files.rows(root) if r.setting.device_kind == "android")
    assert (row.p50_ms, row.p90_ms, row.samples, row.cold_ms) == (2.5, None, 50, 15.5)
    assert row.setting.place.startswith("Tensor G3 (Android device), XNNPACK by benchmark_model, ")
    assert "Cold ms" in text(lambda console: terminal.print_table(console, [row]))
    assert "Cold ms" not in text(lambda console: terminal.print_table(console, report_files.rows(root)[:1]))


def test_names_cannot_become_markup(whole):
    row = replace(report_files.rows(whole)[0], model="a|b [red]*x*")
    assert "a|b [red]*x*" in text(lambda console: terminal.print_table(console, [row]))
    assert r"a\|b \[red\]\*x\*" in markdown_module.markdown([row], plot=False)


def test_runs_are_listed_with_the_unfinished_last(root):
    (root / "mobilenet_v2/prune-91aa23ff.partial").mkdir()
    lines = text(lambda console: terminal.print_runs(console, root, "mobilenet_v2")).splitlines()
    lines = [line for line in lines if line.startswith(" mobilenet_v2")]
    assert [line.split()[2] for line in lines] == ["fit", "quantize", "export", "prune"]
    assert "8 min 20 s" in lines[0]
    assert "accuracy 71.0%" in lines[0]
    assert "fit-" in lines[1].split("min 20 s")[1]
    assert "epochs 3" in lines[1]
    assert "unfinished" in lines[3]


@pytest.mark.parametrize("width", [80, 100, 160])
def test_runs_fit_the_terminal(whole, width):
    shown = text(lambda console: terminal.print_runs(console, whole), width)
    assert max(len(line.rstrip()) for line in shown.splitlines()) <= width
    assert "…" not in shown
    assert "quantize-" in shown
    assert ("Stage" in shown) == (width >= 100)


def test_a_column_added_to_the_runs_appears(whole, monkeypatch):
    added = Column("Seconds", lambda run: f"{run.seconds:.0f}", left=True)
    monkeypatch.setattr(run_columns, "COLUMNS", (*run_columns.COLUMNS, added))
    shown = text(lambda console: terminal.print_runs(console, whole))
    assert shown.splitlines()[1].endswith("Seconds  ")
    assert shown.count(" 500 ") == 12


@pytest.mark.parametrize(
    ("seconds", "words"), [(4.21, "4.2 s"), (200, "3 min 20 s"), (7500, "2 h 05 min"), (59.96, "1 min 00 s")]
)
def test_durations_read_well(seconds, words):
    assert run_columns.duration(seconds) == words


def test_nothing_there_names_the_command(tmp_path):
    with pytest.raises(UserError, match="no measurements under .*; try: make train MODEL=mobilenet_v2"):
        report_files.write(tmp_path)
    with pytest.raises(UserError, match="no measurements of x under .*; try: make measure MODEL=x"):
        report_files.write(tmp_path, "x")
    assert "try: make train MODEL=mobilenet_v2" in text(lambda console: terminal.print_table(console, []))
    assert "try: make train MODEL=x" in text(lambda console: terminal.print_runs(console, tmp_path, "x"))


@pytest.mark.parametrize(
    "content",
    ["{", "[]", "null", "{}", '{"schema": 99}', "\u0000", "[" * 100_000],
    ids=["cut", "list", "null", "empty", "schema", "zero", "deep"],
)
def test_damaged_measurement_is_named_and_the_rest_survives(root, content):
    file = a_measurement(root)
    file.write_text(content)
    scan = measured_rows.measured(root)
    assert len(scan.rows) == 17
    assert len(scan.damaged) == 1
    assert str(file) in scan.damaged[0]
    assert "make measure MODEL=mobilenet_v2" in scan.damaged[0]
    with pytest.raises(UserError, match=file.name):
        report_files.rows(root)


@pytest.mark.parametrize(
    "values", [{"threads": "many"}, {"wall_ms": ["fast"]}, {"accuracy": {"top1": 71}}, {"device": "phone"}]
)
def test_wrong_values_are_damage(root, values):
    file = a_measurement(root)
    if "accuracy" in values:
        values = {"accuracy": json.loads(file.read_text())["accuracy"] | values["accuracy"]}
    change(file, **values)
    assert len(measured_rows.measured(root).damaged) == 1


def test_damaged_provenance_is_named_once(root):
    file = next(root.glob("mobilenet_v2/export-*/provenance.json"))
    file.write_text("{")
    for scan in (exports.exports(root), history.histories(root), measured_rows.measured(root)):
        assert len(scan.damaged) == 1
        assert str(file) in scan.damaged[0]
    assert {e.model for e in exports.exports(root).rows} >= {"inception_v3", "mobilenet_v3_small"}


def test_newest_export_of_a_format_counts(root):
    old = next(root.glob("mobilenet_v2/export-*"))
    new = old.with_name("export-ffffffff")
    new.mkdir()
    rows = [row for row in json.loads((old / "artifacts.json").read_text()) if row["format"] == "uint8"]
    (new / "artifacts.json").write_text(json.dumps(rows))
    (new / "model.uint8.tflite").write_bytes(b"new")
    provenance = json.loads((old / "provenance.json").read_text()) | {"finished": "2026-01-01T00:00:00+00:00"}
    (new / "provenance.json").write_text(json.dumps(provenance))
    found = {e.format: e.run for e in exports.exports(root).rows if e.model == "mobilenet_v2"}
    assert found == {"float32": old.name, "uint8": new.name}


def test_an_export_is_known_by_its_files_not_by_its_name(root):
    old = next(root.glob("mobilenet_v2/export-*"))
    new = old.rename(old.with_name(f"shipped-{old.name.rpartition('-')[2]}"))
    found = [e for e in exports.exports(root).rows if e.model == "mobilenet_v2"]
    assert {(e.run, e.made_by) for e in found} == {(new.name, "fit"), (new.name, "fit, quantize")}


def test_nothing_outside_the_runs_directory_is_opened(root, tmp_path):
    secret = tmp_path / "secret.tflite"
    secret.write_bytes(b"secret")
    file = next(root.glob("mobilenet_v2/export-*/artifacts.json"))
    rows = json.loads(file.read_text())
    file.write_text(json.dumps([row | {"path": "../../../secret.tflite"} for row in rows]))
    (root / "inception_v3/export-aaaaaaaa").symlink_to(tmp_path)
    (tmp_path / "artifacts.json").write_text("[]")
    scan = exports.exports(root)
    assert not any("secret" in str(e.file) for e in scan.rows)
    assert len(scan.damaged) == 2
    assert "not under the runs directory" in scan.damaged[1]
    assert "leads out of the runs directory" in scan.damaged[0]
    samples = next(root.glob("mobilenet_v3_small/export-*/samples"))
    (samples / "aaa-1.png").symlink_to(secret)
    shown = exports.samples(root, [e for e in scan.rows if e.model == "mobilenet_v3_small"])
    assert "aaa-1.png" not in [file.name for file in shown]
    assert len(shown) == 6


def test_needs_no_tensorflow(whole, tmp_path):
    code = f"""
import sys
from pathlib import Path
from tfcompact.report import report_files
report_files.write(Path({str(whole)!r}), out=Path({str(tmp_path)!r}))
assert not {{"tensorflow", "tf_keras", "keras"}} & set(sys.modules), "TensorFlow was imported"
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_help_waits_for_no_plots():
    code = """
import sys
from tfcompact.report import report_files, terminal
assert not {"matplotlib", "pandas", "tensorflow"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
