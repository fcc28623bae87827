"""Phones on the leaderboard: what `tfcompact measure` found of the board's files, beside this computer's times."""

import dataclasses
from pathlib import Path

import fake_runs
import pytest
import scripts
from recorded import tables
from recorded.arguments import Arguments
from recorded.record import Record
from recorded.view import View

from tfcompact.records.device import Device
from tfcompact.runs import measurements, store

leaderboard = scripts.load(Path(__file__).parent / "benchmarks/leaderboard.py")
NAME = "mobilenet_v2_0.35"


@pytest.fixture
def board(tmp_path) -> tuple[Path, dict[str, store.Run]]:
    """A runs directory with rows of this computer only, and the export that is on the board."""
    root = tmp_path / "runs"
    fake_runs.build(root, tuple(fake for fake in fake_runs.FAKES if fake.model == NAME))
    return root, {NAME: store.newest(root, NAME, lambda run: bool(run.artifacts))}


def test_devices_are_beside_the_board(board, tmp_path) -> None:
    root, exports = board
    arguments = Arguments("leaderboard.py", None)
    call = arguments.call(arguments.parse_args(["--records", str(tmp_path / "out")]))
    assert leaderboard.elsewhere(call, exports, root) == []
    here = next(row for row in measurements.measurements(root, NAME) if row.format == "int8" and row.threads == 1)
    phone = Device("android", "android-pixel-8-1a2b", "Tensor G3", 9, "Android 15")
    emulated = Device("emulated", "arm64-cortex-a76-insn", "Cortex-A76 (QEMU 7.2)", 1, "QEMU")
    for row in (
        dataclasses.replace(here, device=phone, backend="native", wall_ms=(2.0, 3.0, 4.0)),
        dataclasses.replace(here, device=phone, backend="native", delegate="gpu", wall_ms=(1.0,), run="export-other"),
        dataclasses.replace(
            here, device=emulated, backend="arm64_insn_proxy", wall_ms=(), process_ms=(), instructions=1_234_567
        ),
    ):
        measurements.save_measurement(root, row)
    lines = leaderboard.elsewhere(call, exports, root)
    assert {line["place"]: line["cost"] for line in lines} == {
        "Tensor G3 (Android device), XNNPACK by native, 1 thread": 3.0,
        "Cortex-A76 (QEMU 7.2), XNNPACK, 1 thread": 1.234567,
    }
    text = tables.devices(lines)
    assert "Latency of one image in ms, median:" in text
    assert "Instructions of one inference, in millions:" in text
    assert f"| {NAME} | 3.00 |" in text
    assert f"| {NAME} | 1.23 |" in text
    made = View(Record.load("leaderboard", tmp_path / "out"))
    assert made.rows("devices").of("cost") == pytest.approx([line["cost"] for line in lines], rel=1e-5)
