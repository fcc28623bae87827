"""Search spaces: what is a member, how it is chosen, and the few networks that have every layer."""

import itertools
import json
import random

import pytest

from tfcompact import models
from tfcompact.errors import UserError
from tfcompact.frameworks import keras
from tfcompact.models import mnasnet, mobilenet_v2, mobilenet_v3
from tfcompact.models.architecture import Architecture, Row, build
from tfcompact.models.space import Choices, Space
from tfcompact.networks import rewrite


def of_mnasnet(rows) -> Architecture:
    made = tuple(Row(r.c, r.s, r.n, r.t, r.k, "input" if r.se else False, "relu") for r in rows)
    return Architecture(224, 1.0, 1000, 32, 1280, made, "relu")


def of_mobilenet_v3(rows, head: int, last: int) -> Architecture:
    before = (16, *(row.out for row in rows))
    made = tuple(
        Row(row.out, row.s, 1, row.exp / k, row.k, row.se, row.nl) for k, row in zip(before, rows, strict=False)
    )
    return Architecture(224, 1.0, 1000, 16, head, made, "h_swish", last)


MEMBERS = {
    "mnasnet_a1": ("mnasnet", of_mnasnet(mnasnet.A1)),
    "mnasnet_b1": ("mnasnet", of_mnasnet(mnasnet.B1)),
    "mobilenet_v2": (
        "mnasnet",
        Architecture(
            224, 1.0, 1000, 32, 1280, tuple(Row(c, s, n, t, 3, False, "relu6") for t, c, n, s in mobilenet_v2.BLOCKS)
        ),
    ),
    "mobilenet_v3_small": ("mobilenet_v3_small", of_mobilenet_v3(mobilenet_v3.SMALL, 576, 1024)),
    "mobilenet_v3_large": ("mobilenet_v3_large", of_mobilenet_v3(mobilenet_v3.LARGE, 960, 1280)),
}


@pytest.mark.parametrize("name", MEMBERS)
def test_the_networks_that_were_found_are_members(name) -> None:
    """Layer by layer the network of the zoo, with its parameters and multiply-adds; and it round-trips."""
    place, architecture = MEMBERS[name]
    space = Space.named(place)
    choices = space.choices(architecture)
    assert space.architecture(choices) == architecture
    assert Architecture.from_json(json.loads(json.dumps(architecture.to_json()))) == architecture
    ours, theirs = build(architecture), models.build(name)
    assert rewrite.cost(ours) == rewrite.cost(theirs)
    kinds = [[type(layer).__name__ for layer in model.layers] for model in (ours, theirs)]
    assert sorted(kinds[0]) == sorted(kinds[1])
    assert [w.shape for w in ours.weights] == [w.shape for w in theirs.weights]


@pytest.mark.parametrize("place", ["mnasnet", "mobilenet_v3_small", "mobilenet_v3_large"])
def test_what_is_drawn_is_a_member(place) -> None:
    space = Space.named(place)
    rng = random.Random(0)
    for _ in range(50):
        drawn = space.sample(rng)
        assert space.architecture(space.choices(drawn)) == drawn
    assert {type(d.options) for d in space.decisions} == {tuple}
    size = 1
    for decision in space.decisions:
        size *= len(decision.options)
    assert size == space.size


SMALL = Space(
    px=(32,),
    classes=10,
    stem=8,
    head=32,
    rows=(
        Choices((8, 16), 1, (1, 2), (1, 3), (3,), (False, "input")),
        Choices((16, 24), 2, (1,), (3,), (3, 5), skip=("identity", "pool"), op=("mbconv", "conv")),
        Choices((24, 32, 40), 1, (1, 2), (2, 4), (3,)),
    ),
)


def blocks(architecture: Architecture) -> set[tuple]:
    """What a block's layers depend on, of every block."""
    found = set()
    k = architecture.stem
    for i, row in enumerate(architecture.rows):
        for j in range(row.repeats):
            found.add((i, j > 0, k, row.out, kind(row)))
            k = row.out
    return found


def kind(row: Row) -> tuple:
    return row.expansion, row.kernel, row.squeeze, row.act, row.op, row.skip


def test_covering_is_exact_where_channels_are_chosen() -> None:
    """Every block of every member, between every two numbers of channels, occurs; and in few networks."""
    everything = set()
    for choices in itertools.product(*(range(len(d.options)) for d in SMALL.decisions)):
        everything |= blocks(SMALL.architecture(choices))
    covering = SMALL.covering()
    assert set().union(*map(blocks, covering)) == everything
    pairs = [1 * 2 * 4, 2 * 2 * 6, 2 * 3 * 2]  # of channels, times kinds of block
    assert max(pairs) <= len(covering) <= sum(pairs)


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"head": 64}, "head must be 32"), ({"px": 64}, "px must be one of 32"), ({"outer_act": "relu"}, "outer_act")],
)
def test_a_stranger_is_told_what_it_has_that_the_space_has_not(changes, said) -> None:
    own = SMALL.sample(random.Random(0))
    with pytest.raises(UserError, match=said):
        SMALL.choices(Architecture(**(vars(own) | changes)))
    with pytest.raises(UserError, match="numbers"):
        SMALL.architecture((0,))
    with pytest.raises(UserError, match="a number from 0 to"):
        SMALL.architecture([9] * len(SMALL.decisions))


def test_a_name_that_is_none_suggests_one() -> None:
    with pytest.raises(UserError, match="mnasnet"):
        Space.named("mnasnt")


def test_a_convolution_expands_nothing_and_is_one_architecture() -> None:
    places = {d.name: i for i, d in enumerate(SMALL.decisions)}
    assert "rows.1.op" in places
    chosen = [0] * len(places)
    chosen[places["rows.1.op"]] = 1
    model = build(SMALL.architecture(chosen))
    assert model.get_layer("block1_0_conv").kernel_size == (3, 3)
    assert "block1_0_expand" not in {layer.name for layer in model.layers}


def test_ways_past_a_block() -> None:
    def network(skip: str, stride: int):
        row = Row(8, stride, 1, 3, 3, False, "relu6", skip=skip)
        return build(Architecture(32, 1.0, 10, 8, 16, (row,)))

    kinds = {(s, stride): network(s, stride) for s in ("identity", "none", "pool") for stride in (1, 2)}
    adds = {key: any(isinstance(layer, keras.layers.Add) for layer in m.layers) for key, m in kinds.items()}
    assert adds == {
        ("identity", 1): True,
        ("identity", 2): False,
        ("none", 1): False,
        ("none", 2): False,
        ("pool", 1): True,
        ("pool", 2): True,
    }


def test_an_architecture_of_before_has_its_name_still() -> None:
    """What is usual is not written, so the content that a network is named after is what it was."""
    row = Row(8, 2, 1, 3, 3, True, "relu6")
    assert row.to_json() | {} == {
        "out": 8, "stride": 2, "repeats": 1, "expansion": 3, "kernel": 3, "squeeze": True, "act": "relu6",
        "op": "mbconv", "skip": "identity",
    }  # fmt: skip
    assert set(Architecture(32, 1.0, 10, 8, 16, (row,)).to_json()) == {
        "px",
        "width",
        "classes",
        "stem",
        "head",
        "rows",
    }
    assert set(Architecture(32, 1.0, 10, 8, 16, (row,)).to_json()["rows"][0]) == set(row.to_json()) - {"op", "skip"}


PRICED = Space(
    px=(32,),
    classes=10,
    stem=8,
    head=32,
    rows=(
        Choices((8, 16), 1, (1, 2), (1, 3), (3, 5), (False, "input"), ("relu",)),
        Choices((16, 24), 2, (1, 2), (3,), (3,), (False, True), ("h_swish",), ("mbconv", "conv")),
    ),
)


@pytest.mark.slow
def test_a_member_is_priced_by_blocks_as_it_is_whole(tmp_path) -> None:
    """Operator by operator; most members are not built, and what was learnt is kept."""
    from tfcompact.export import candidate
    from tfcompact.pipeline.prices import Prices
    from tfcompact.pipeline.space_prices import SpacePrices
    from tfcompact.tflite.fused_groups import read

    prices = Prices(_no_table(), "")
    known = SpacePrices(prices, tmp_path)
    rng = random.Random(0)
    for _ in range(6):
        known.network(PRICED.sample(rng))
    again = SpacePrices(prices, tmp_path)
    whole = 0
    for _ in range(12):
        member = PRICED.sample(rng)
        before = again.looked_at
        found = again.network(member)
        if again.looked_at == before and whole < 2:
            whole += 1
            assert found == tuple(read(candidate.int8_file(build(member))))
    assert whole == 2


def _no_table():
    from tfcompact.latency.cost_table import SCHEMA, Setting, Table
    from tfcompact.records.device import Device

    device = Device("emulated", "arm64-x-insn", "X", 1, "QEMU")
    return Table(SCHEMA, Setting(device, "insn", "runtime", "xnnpack", 1, "instructions"), 0, 0)
