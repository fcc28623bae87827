"""One table of columns: what it says is what the terminal, Markdown, CSV and the app tell of a measurement."""

import csv
import io
from pathlib import Path

import fake_runs
import pytest
from rich.console import Console
from streamlit.testing.v1 import AppTest

from tfcompact.report import csv_file, measurement_columns, report_files, terminal
from tfcompact.report.markdown import markdown
from tfcompact.report.measurement_columns import COLUMNS, Number, Text

APP = Path(__file__).parents[1] / "streamlit_app" / "app.py"
OLD_HEADER = (
    "key,model,format,run,made_by,size_mb,parameters,macs,image_px,top1,top5,p50_ms,p90_ms,p99_ms,samples,"
    "xnnpack_partitions,peak_memory_mb,flags,started,instructions,cold_ms,p5_ms,p95_ms,mad_ms,device,device_kind,"
    "processor,runtime,delegate,threads,data_digest,test_images,data,backend,mode,affinity,softmax"
)
"""The header of report.csv as it was before there was one table; scripts read these."""


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A runs directory that no test writes into."""
    root = tmp_path_factory.mktemp("columns") / "runs"
    fake_runs.build(root, fake_runs.FAKES[:2])
    return root


@pytest.fixture(scope="module")
def rows(root):
    return report_files.rows(root)


def printed(rows, width: int = 400) -> str:
    console = Console(width=width, file=io.StringIO())
    terminal.print_table(console, rows)
    return console.file.getvalue()


def app_table(root: Path, monkeypatch):
    """The table of the app's second page, with every row."""
    monkeypatch.setenv("TFCOMPACT_RUNS", str(root))
    at = AppTest.from_file(str(APP), default_timeout=60).run()
    at.switch_page("app_pages/compare.py").run()
    at.pills(key="threads_shown").set_value([]).run()
    assert not at.exception
    return at.dataframe[0].value


def test_a_column_added_to_the_table_appears_in_all_four(root, rows, monkeypatch):
    added = Number("answer_mm", "Answer", "The answer", lambda r: 0.0421, ".1f", 1000, unit="um", meaning="to it all")
    monkeypatch.setattr(measurement_columns, "COLUMNS", (*COLUMNS, added))
    assert "Answer um" in printed(rows)
    assert "42.1" in printed(rows)
    assert "| Answer um |" in markdown(rows, plot=False)
    assert "42.1 |" in markdown(rows, plot=False)
    assert "Answer: to it all." in markdown(rows, plot=False)
    assert next(csv.DictReader(io.StringIO(csv_file.as_csv(rows))))["answer_mm"] == "0.0421"
    assert list(app_table(root, monkeypatch)["The answer, um"]) == pytest.approx([42.1] * len(rows))


def test_the_csv_file_has_lost_nothing(rows):
    first = next(csv.DictReader(io.StringIO(csv_file.as_csv(rows))))
    assert set(OLD_HEADER.split(",")) <= set(first)
    assert list(first) == [column.key for column in COLUMNS]
    assert len(set(first)) == len(first)
    row = rows[0]
    exact = {"p50_ms": row.p50_ms, "top1": row.top1, "size_mb": row.size_mb, "parameters": row.parameters}
    assert {key: float(first[key]) for key in exact} == exact
    assert (first["instructions"], first["delegate"], first["softmax"]) == ("", "xnnpack", "True")


def test_a_unit_in_a_heading_is_one_in_the_key():
    suffixes = {"ms": "_ms", "MB": "_mb", "px": "_px"}
    for column in COLUMNS:
        if column.unit in suffixes:
            assert column.key.endswith(suffixes[column.unit])
        if isinstance(column, Text):
            assert column.unit == ""


def test_what_may_be_shown_has_headings_of_its_own():
    shown = [column for column in COLUMNS if column.useful is not measurement_columns.never]
    for headings in ([c.heading for c in shown], [c.full_heading for c in shown]):
        assert all(headings)
        assert len(set(headings)) == len(headings)


def test_columns_that_all_rows_share_are_left_to_the_title(root, rows, monkeypatch):
    one_setting = [row for row in rows if row.setting.threads == 1]
    assert "Threads" not in {c.title for c in measurement_columns.useful_columns(one_setting)}
    assert "Threads" in {c.title for c in measurement_columns.useful_columns(rows)}
    assert "Threads" not in printed(rows)  # which has a table for each setting
    table = app_table(root, monkeypatch)  # which has one for all
    assert set(table["Threads"]) == {1, 2}
    assert table["Top-1, %"].max() == pytest.approx(70.4)
    assert "Delegate" not in table


def test_the_least_wanted_columns_yield_first(rows):
    headings = {c.heading: c.yields for c in COLUMNS if c.heading in printed(rows)}
    for width in (160, 120, 100, 80):
        shown = {heading for heading in headings if heading in printed(rows, width).partition("Left out")[0]}
        left_out = set(headings) - shown
        assert all(headings[heading] for heading in left_out)
    assert {"Model", "Format", "MB", "Top-1 %", "p50 ms"} <= shown
