"""Networks go through every stage that makes them smaller and become int8 files, of every family."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from every_stage import through_every_stage
from variants import cheapest_first

QUICK = ("mobilenet_v2_0.35",)
"""What is always tried; the others take some minutes each, and are tried with --exhaustive."""
STUCK = "shufflenet_v1"
"""The family whose channels hang together, layer by layer: it goes through all other stages."""


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        p if p.id in QUICK else pytest.param(p.id, marks=pytest.mark.exhaustive)
        for p in cheapest_first(lambda spec: not spec.float_only)
        if not p.marks or p.id in QUICK
    ],
)
def test_a_network_goes_through_every_stage_to_an_int8_file(name, tmp_path) -> None:
    found = through_every_stage(name, tmp_path)
    if found["family"] == STUCK:
        assert found["refused"].startswith("channels: ")
    else:
        assert found["refused"] == ""
        assert found["channels_macs"] <= 0.7 * found["distill_macs"]
        assert found["decompose_macs"] <= 0.9 * found["channels_macs"]
    assert found["zeros"] > 0
    assert found["values"] <= 16
    assert 0 < found["zipped_bytes"] < found["bytes"]
