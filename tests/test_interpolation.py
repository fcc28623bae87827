"""Costs at widths that a latency table does not hold, and of a network whose layers have other widths."""

import random
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from tfcompact import models
from tfcompact.compress.channels.atoms import channels
from tfcompact.compress.channels.falls import falls, probes
from tfcompact.compress.channels.narrowing import of_random_widths
from tfcompact.compress.channels.slicing import smaller
from tfcompact.errors import UserError
from tfcompact.export import candidate
from tfcompact.latency.cost_table import SCHEMA, Alone, Setting, Table
from tfcompact.latency.interpolation import Interpolated, form, step_of
from tfcompact.latency.width_prices import WidthPrices
from tfcompact.networks import rewrite
from tfcompact.records.device import Device
from tfcompact.tflite.fused_groups import Network, read

SETTING = Setting(Device("emulated", "arm64-x-insn", "X", 1, "QEMU"), "insn", "runtime", "xnnpack", 1, "instructions")


def convolution(reads: int, writes: int, px: int = 8) -> str:
    return (
        f"CONV_2D int8[1,{px},{px},{reads}] const int8/channel[{writes},1,1,{reads}] const int32/channel[{writes}] "
        f"-> int8[1,{px},{px},{writes}] strideH=1 strideW=1"
    )


def depthwise(width: int) -> str:
    return (
        f"DEPTHWISE_CONV_2D int8[1,8,8,{width}] const int8/channel[1,3,3,{width}] const int32/channel[{width}] "
        f"-> int8[1,8,8,{width}] depthMultiplier=1"
    )


def stairs(reads: int, writes: int) -> float:
    """What a convolution costs on a device with steps of 16."""
    high = -(-writes // 16) * 16
    return 900 + 7 * reads + 11 * high + 3 * reads * high


def table(rows: dict[str, float], step: int = 16) -> Table:
    alone = {text: Alone(100 + cost, True) for text, cost in rows.items()}
    return Table(SCHEMA, SETTING, 60, 40, alone, step=step)


GRID = {convolution(i, o): stairs(i, o) for i in (16, 48, 96) for o in (16, 48, 96)}


def test_operators_that_differ_in_channels_have_one_form() -> None:
    assert form(convolution(16, 24)).text == form(convolution(40, 8)).text
    assert form(convolution(16, 24))[1:] == (16, 24)
    assert form(convolution(16, 24)).text != form(convolution(16, 24, px=4)).text
    assert form(depthwise(16)).text == form(depthwise(32)).text != form(convolution(16, 16)).text
    joined = "CONCATENATION int8[1,8,8,{}] int8[1,8,8,{}] -> int8[1,8,8,{}] axis=3"
    assert form(joined.format(3, 5, 8)) == (form(joined.format(4, 4, 8)).text, 8, 8)
    flat = "RESHAPE int8[1,1,1,{0}] const int32[2]=-1,{0} -> int8[1,{0}]"
    assert form(flat.format(16)).text == form(flat.format(48)).text
    padded = "PAD int8[1,8,8,{0}] const int32[4,2]=0,0,{1},1,0,1,0,0 -> int8[1,9,9,{0}]"
    assert form(padded.format(16, 0)).text == form(padded.format(24, 0)).text != form(padded.format(16, 1)).text


@pytest.mark.parametrize(("reads", "writes"), [(32, 96), (16, 20), (64, 48), (80, 64), (24, 90), (120, 128)])
def test_a_cost_between_measured_ones_is_on_the_stairs(reads, writes) -> None:
    prices = Interpolated(table(GRID))
    assert prices.cost(convolution(reads, writes)) == pytest.approx(stairs(reads, writes), rel=1e-6)


def test_what_was_measured_is_what_was_measured() -> None:
    """Also where no surface goes through it, and at other widths of its step."""
    odd = GRID | {convolution(48, 48): 2 * stairs(48, 48)}
    prices = Interpolated(table(odd))
    assert prices.cost(convolution(48, 48)) == 2 * stairs(48, 48)
    assert prices.cost(convolution(48, 40)) == pytest.approx(2 * stairs(48, 48))
    assert stairs(40, 48) < prices.cost(convolution(40, 48)) < 2 * stairs(40, 48)


@pytest.mark.parametrize("known", [[(32, 32)], [(32, 32), (64, 64)], [(16, 16), (32, 32), (64, 64)]])
def test_few_rows_give_a_rough_answer_and_no_nonsense(known) -> None:
    prices = Interpolated(table({convolution(i, o): stairs(i, o) for i, o in known}))
    for reads, writes in ((48, 48), (64, 32)):
        assert prices.cost(convolution(reads, writes)) == pytest.approx(stairs(reads, writes), rel=0.5)


def test_operators_without_kernels_of_their_own_are_on_a_line() -> None:
    """But for what is left over a step, which costs as much at any width."""
    prices = Interpolated(table({depthwise(w): 50 + 9 * w for w in (16, 64)}))
    assert prices.cost(depthwise(48)) == pytest.approx(50 + 9 * 48)

    def steps(w: int) -> float:
        return 50 + 9 * w + 30 * (w % 16 > 0)

    prices = Interpolated(table({depthwise(w): steps(w) for w in (16, 24, 64, 72)}))
    for width in (32, 40, 48, 56, 88, 96):
        assert prices.cost(depthwise(width)) == pytest.approx(steps(width), rel=1e-6)


def test_a_prediction_says_how_much_of_it_was_interpolated() -> None:
    prices = Interpolated(table(GRID))
    known, between = convolution(16, 16), convolution(32, 32)
    assert prices.predict(Network((known, known), 1)) == (100 + 2 * stairs(16, 16), 0.0)
    cost, share = prices.predict(Network((known, between), 1))
    assert cost == pytest.approx(100 + stairs(16, 16) + stairs(32, 32))
    assert share == pytest.approx(stairs(32, 32) / (stairs(16, 16) + stairs(32, 32)))
    with pytest.raises(UserError, match=r"DEPTHWISE.*is not in the latency table.*tfcompact latency-table --extend"):
        prices.predict(Network((known, depthwise(16)), 1))


def test_the_step_of_a_device_is_found() -> None:
    def costs(step: int, noise: float = 0.0) -> dict[int, float]:
        rng = random.Random(0)
        return {w: -(-w // step) * (1 + rng.uniform(0, noise)) for w in range(4, 65, 4)}

    assert [step_of(costs(step, 0.01), 0.02) for step in (4, 8, 16, 32)] == [4, 8, 16, 32]
    assert step_of(costs(16, 0.08), 0.02) == 4  # noise beyond the tolerance: no step is claimed
    assert step_of({w: float(w) for w in range(4, 65, 4)}, 0.02) == 4


def rows_of(*networks: Network) -> dict[str, float]:
    return {text: float(len(text)) for network in networks for text in network.configurations}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mobilenet_v3_small_0.75", "squeezenet_1.1"])
def test_other_widths_have_the_operators_of_the_network_that_has_them(name) -> None:
    """A network of which every group lost channels at random is, operator by operator, what was said without it."""
    spec = models.spec(name)
    model = rewrite.inference(models.built(spec, px=max(32, spec.min_px), classes=10))
    structure = channels(model)
    whole = read(candidate.int8_file(model))
    tried = [
        (gone, read(candidate.int8_file(smaller(model, structure, classes))))
        for gone, classes in probes(structure, [group.classes for group in structure.groups])
    ]
    assert len(tried) == 2
    prices = WidthPrices(Interpolated(table(rows_of(whole))), whole, falls(structure), tried)
    rng = np.random.default_rng(0)
    gone = {
        place: int(rng.integers(0, len(group.classes) // 2))
        for place, group in enumerate(structure.groups)
        if len(group.classes) > 3
    }
    classes = {root for place, count in gone.items() for root in structure.groups[place].classes[:count]}
    assert prices.network(gone) == read(candidate.int8_file(smaller(model, structure, classes)))
    assert prices.network({}) == whole


def test_a_narrower_network_with_other_operators_is_refused() -> None:
    whole = Network((convolution(16, 16), depthwise(16)), 1)
    with pytest.raises(UserError, match="has other operators than the whole one"):
        WidthPrices(Interpolated(table(GRID)), whole, [{0: 1}], [({0: 8}, Network((convolution(16, 8),), 1))])


def test_a_number_that_falls_as_no_layer_does_is_refused() -> None:
    whole, less = Network((convolution(16, 16),), 1), Network((convolution(16, 11),), 1)
    with pytest.raises(UserError, match="which no layer's channels do"):
        WidthPrices(Interpolated(table(GRID)), whole, [{0: 1}], [({0: 8}, less)])


def test_random_widths_are_multiples_and_of_one_seed() -> None:
    model = models.build("mobilenet_v2_0.35", px=32, classes=10)
    one, same, other = (of_random_widths(model, random.Random(seed), step=8) for seed in (1, 1, 2))
    widths = [[layer.filters for layer in m.layers if getattr(layer, "filters", None)] for m in (one, same, other)]
    assert widths[0] == widths[1] != widths[2]
    whole = [layer.filters for layer in model.layers if getattr(layer, "filters", None)]
    assert all(w % 8 == 0 or w == full for w, full in zip(widths[0], whole, strict=True))
    assert all(0.2 * full <= w <= full for w, full in zip(widths[0], whole, strict=True))
