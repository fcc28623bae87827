"""docs/results.md, its plots, leaderboard.csv and the README: all are what docs/results.py makes of the records."""

import itertools
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import scripts
from recorded import digest, measures, staleness
from recorded.arguments import Arguments
from recorded.record import Book, Record, recording

from tfcompact.errors import UserError

ROOT = Path(__file__).parent.parent
BENCHMARKS = ROOT / "tests" / "benchmarks"
NAMES = sorted(path.stem for path in BENCHMARKS.glob("*.py"))
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "android_harness" / "README.md"]
results = scripts.load(ROOT / "docs" / "results.py")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """What is rendered and what it is rendered from, to be changed."""
    shutil.copy(ROOT / "README.md", tmp_path)
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    return tmp_path


def test_everything_is_as_rendered() -> None:
    assert results.differences(ROOT) == [], "python docs/results.py writes it"


def test_a_changed_cell_is_found(copy: Path) -> None:
    assert results.differences(copy) == []
    page = copy / "docs" / "results.md"
    lines = page.read_text().splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("| mobilenet_v2 | 64 | 0 |"))
    lines[at] = lines[at].replace(" | 0 | ", " | 7 | ")
    page.write_text("\n".join(lines) + "\n")
    (found,) = results.differences(copy)
    assert found.startswith(f"docs/results.md, line {at + 1}: is '| mobilenet_v2 | 64 | 7 |")


def test_a_changed_record_is_found_everywhere_it_is_shown(copy: Path) -> None:
    board = copy / "docs" / "results" / "leaderboard.json"
    text = board.read_text()
    bytes_of = re.search(r'"float_bytes": (\d+)', text)
    board.write_text(text.replace(bytes_of[0], '"float_bytes": 12345678'))
    found = results.differences(copy)
    assert [line.split(",")[0].split(" is ")[0] for line in found] == [
        "docs/results.md",
        "docs/results/leaderboard.csv",
        "docs/results/leaderboard.png",
    ]


def test_a_changed_figure_of_the_readme_is_found_and_mended(copy: Path) -> None:
    readme = copy / "README.md"
    before = readme.read_text()
    match = results.BETWEEN.search(before)
    readme.write_text(before.replace(match[0], f"{match[1]}99.9{match[4]}"))
    assert "README.md" in results.differences(copy)[0]
    assert results.write(copy) == [readme]
    assert readme.read_text() == before


def test_a_missing_plot_is_found(copy: Path) -> None:
    (copy / "docs" / "images" / "finetune.png").unlink()
    assert results.differences(copy) == ["docs/images/finetune.png is not drawn from today's records"]


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("{{ flowers.command }}", "{{ flower.command }}", "UndefinedError: 'flower' is undefined"),
        ("{{ low.model }}", "{{ low.modell }}", "no attribute 'modell'"),
        ('kernels.rows().of("steps")', 'kernels.rows("row").of("steps")', "no table row in kernels"),
        ('ratio")|max < 1.05', 'ratio")|max < 0.05', "what is said here in words does not hold any more"),
    ],
)
def test_prose_without_a_record_names_its_line(copy: Path, before: str, after: str, said: str) -> None:
    template = copy / "docs" / results.TEMPLATE
    text = template.read_text()
    assert before in text
    template.write_text(text.replace(before, after))
    with pytest.raises(UserError, match=rf"docs/results.md.jinja, line [0-9]+: .*{said}"):
        results.texts(copy)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_row_of_a_table_has_a_cell_for_each_heading(page: Path) -> None:
    lines = page.read_text().splitlines()
    for is_table, group in itertools.groupby(enumerate(lines, 1), lambda line: line[1].startswith("|")):
        if is_table:
            (_, heading), *rows = group
            assert re.fullmatch(r"\|(\s*:?-+:?\s*\|)+", rows[0][1]), f"line {rows[0][0]} rules no table"
            for number, row in rows:
                assert cells(row) == cells(heading), f"{page.name}, line {number}: {row}"


def cells(row: str) -> int:
    """How many a row of a Markdown table has."""
    return len(re.findall(r"(?<!\\)\|", row)) - 1


@pytest.mark.parametrize("name", NAMES)
def test_every_benchmark_has_a_record_or_a_reason(name: str) -> None:
    assert name in measures.MEASURES
    if name in measures.NOT_RECORDED:
        assert measures.NOT_RECORDED[name]
    else:
        assert Record.load(name).parts


def test_records_are_of_benchmarks_and_measure_packages_there_are_to_be() -> None:
    assert {record.name for record in staleness.records()} <= set(NAMES) == set(measures.MEASURES)
    for packages in measures.MEASURES.values():
        assert set(packages) <= set(measures.PACKAGES)


def test_records_hold_no_path_of_a_machine() -> None:
    for path in (ROOT / "docs" / "results").glob("*.json"):
        assert not re.search(r'"(/|~|[A-Z]:\\)|/(home|work|root|tmp|Users)/', path.read_text()), path


def test_records_that_are_older_than_their_code_are_named() -> None:
    """No failure: whoever changes the code cannot always measure again at once."""
    if old := staleness.stale(staleness.records()):
        pytest.xfail(f"older than the code they measure (make results): {'; '.join(map(str, old))}")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("x = 1", "x  =  (1)  # one", True),
        ('def f():\n    """Says so."""\n    return 1', "def f():\n    return 1", True),
        ("x = 1", "x = 2", False),
        ("x = None", "x = 0", False),
        ("f(a=1)", "f(b=1)", False),
        ("f('text')", "f('other')", False),
    ],
)
def test_a_digest_is_of_what_python_sees(one: str, other: str, same: bool) -> None:
    assert (digest.of_source(one) == digest.of_source(other)) == same


def test_a_part_is_old_when_its_package_changes(monkeypatch, tmp_path: Path) -> None:
    made = record(tmp_path, "data")
    assert staleness.stale([made]) == []
    monkeypatch.setattr(digest, "packages", lambda names: dict.fromkeys(names, "another"))
    (old,) = staleness.stale([made])
    assert (old.name, old.parts, old.command) == ("bad_inputs", ("",), "python tests/benchmarks/bad_inputs.py")
    assert str(old).startswith("bad_inputs: data")


def record(folder: Path, package: str) -> Record:
    """One that measured a package just now."""
    arguments = Arguments("bad_inputs.py", None)
    with recording(arguments.call(arguments.parse_args(["--records", str(folder)]))) as book:
        book.add(left=1)
    assert list(Record.load("bad_inputs", folder).parts[""].measures) == [package]
    return Record.load("bad_inputs", folder)


def test_a_benchmark_that_fails_leaves_the_record_alone(tmp_path: Path) -> None:
    before = record(tmp_path, "data")
    arguments = Arguments("bad_inputs.py", None)
    call = arguments.call(arguments.parse_args(["--records", str(tmp_path)]))

    def broken(book: Book) -> None:
        book.add(left=2)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), recording(call) as book:
        broken(book)
    with pytest.raises(ValueError, match="measured nothing"), recording(call):
        pass
    assert Record.load("bad_inputs", tmp_path) == before


def test_one_network_replaces_its_part_only(tmp_path: Path) -> None:
    arguments = Arguments("flowers.py", None)
    arguments.add_argument("data")
    arguments.add_argument("--px", type=int, default=64)
    arguments.add_selection("--networks", default=("a", "b"))
    words = ["/somewhere/flowers", "--px", "96", "--records", str(tmp_path)]
    for networks, accuracy in ((["a", "b"], 1.0), (["b"], 0.123456789)):
        call = arguments.call(arguments.parse_args([*words, "--networks", *networks]))
        for name in networks:
            with recording(call, name, flag="--networks") as book:
                book.add(network=name, accuracy=accuracy)
    made = Record.load("flowers", tmp_path)
    assert [part.tables["rows"][0]["accuracy"] for part in made.parts.values()] == [1.0, 0.123457]
    assert made.parts["b"].command == "python tests/benchmarks/flowers.py path/to/flowers --px 96"
    assert made.parts["b"].selection == ["--networks", "b"]
    assert made.parts["b"].options == {"data": "path/to/flowers", "px": 96}


def test_a_result_is_as_old_as_the_run_it_was_computed_from(tmp_path: Path) -> None:
    class Run:
        path = tmp_path
        provenance = {
            "started": "2026-01-01T00:00:00.000000+00:00",
            "seconds": 100.0,
            "cpu_seconds": 200.0,
            "versions": {"tfcompact": "0"},
            "git": {"commit": "0" * 40, "dirty": False},
        }

    arguments = Arguments("flowers.py", None)
    with recording(arguments.call(arguments.parse_args(["--records", str(tmp_path)]))) as book:
        book.rests_on(Run)
        book.add(accuracy=1)
    part = Record.load("flowers", tmp_path).parts[""]
    assert (part.date, part.commit, part.versions, part.load) == (
        "2026-01-01T00:00:00Z",
        "0" * 40,
        {"tfcompact": "0"},
        None,
    )
    assert 100 <= part.seconds < 200 <= part.cpu_seconds
    assert set(part.measures.values()) == {None}  # a commit that git does not have


def test_make_results_lists_what_is_old() -> None:
    text = subprocess.run(["make", "-n", "results", "VENV=."], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "docs/results.py --stale" in text.stdout
