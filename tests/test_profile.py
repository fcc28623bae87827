"""Costs against numbers computed by hand, and against what the converter makes of the same network."""

import math

import pytest
from ai_edge_litert.interpreter import Interpreter

from tfcompact import models
from tfcompact.frameworks import keras, silenced, tf
from tfcompact.models.layers import HSwish, Scale
from tfcompact.networks.costs import CACHE_PJ, DRAM_PJ, FLOAT32, INT8, Cost, block_of
from tfcompact.networks.operators import operators, profile

L = keras.layers


def tiny():
    """8 x 8 x 3 -> a 3x3 convolution to 4 channels with a shortcut around a depthwise one -> 5 classes."""
    image = L.Input((8, 8, 3), name="image")
    x = L.Conv2D(4, 3, 2, "same", use_bias=False, name="stem")(image)  # 4 x 4 x 4
    x = stem = L.ReLU(6.0, name="stem_relu6")(L.BatchNormalization(name="stem_bn")(x))
    x = L.DepthwiseConv2D(3, 1, "same", use_bias=False, name="block0_0_depthwise")(x)
    x = L.BatchNormalization(name="block0_0_depthwise_bn")(x)
    x = L.Add(name="block0_0_add")([stem, x])
    x = L.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(image, L.Dense(5, name="logits")(L.Dropout(0.5, name="logits_dropout")(x)), name="tiny")


@pytest.fixture(scope="module")
def mobilenet():
    return profile(models.build("mobilenet_v2"))


def test_a_tiny_network_by_hand():
    p = profile(tiny())
    assert [o.name for o in p.operators] == ["stem", "block0_0_depthwise", "block0_0_add", "pool", "logits"]
    stem, depthwise, add, pool, logits = (o.cost(INT8) for o in p.operators)
    # Kernels, and a bias of 4 bytes for each channel that is left of batch normalization.
    assert (stem.macs, stem.params, stem.weight_bytes) == (4 * 4 * 4 * 27, 108 + 16, 108 + 16)
    assert (stem.read_bytes, stem.written_bytes) == (192, 64)
    assert (depthwise.macs, depthwise.params, depthwise.weight_bytes) == (4 * 4 * 4 * 9, 36 + 16, 36 + 16)
    assert (add.macs, add.read_bytes, add.written_bytes) == (0, 128, 64)
    assert (pool.read_bytes, pool.written_bytes) == (64, 4)
    assert (logits.macs, logits.params, logits.weight_bytes) == (20, 25, 20 + 5 * 4)
    assert p.total.macs == 1728 + 576 + 20
    assert p.total.moved_bytes == (124 + 52 + 40) + (192 + 64 + 128 + 64 + 4) + (64 + 64 + 64 + 4 + 5)
    assert [o.nonlinearity for o in p.operators] == ["relu6", None, None, None, None]


def test_memory_peaks_by_hand(mobilenet):
    p = profile(tiny())
    # stem: image 192 + its output 64. The addition keeps both of its inputs beside its output: 3 x 64.
    assert (p.peak.operator, p.peak.bytes, p.peak.alive) == ("stem", 256, (("image", 192), ("stem", 64)))
    assert mobilenet.peak.operator == "block1_0_depthwise"
    assert mobilenet.peak.alive == (("block1_0_expand", 112 * 112 * 96), ("block1_0_depthwise", 56 * 56 * 96))


def test_energy_by_hand():
    cost = Cost(params=9, macs=1000, weight_bytes=10, read_bytes=20, written_bytes=30, arithmetic_pj=1000 * 0.3)
    assert (INT8.mac_pj, FLOAT32.mac_pj) == pytest.approx((0.2 + 0.1, 3.7 + 0.9))
    assert (DRAM_PJ, CACHE_PJ) == (160, 12.5)
    assert cost.energy_pj == pytest.approx(300 + 10 * 160 + 50 * 12.5)
    assert cost.intensity == pytest.approx(1000 / 60)
    assert cost + cost == Cost(18, 2000, 20, 40, 60, 600)


def test_float_numbers_take_four_bytes_and_biases_too():
    ours, other = (sum((o.cost(p) for o in operators(tiny())), Cost()) for p in (INT8, FLOAT32))
    biases = 4 * (4 + 4 + 5)
    assert other.weight_bytes - biases == 4 * (ours.weight_bytes - biases)
    assert (other.read_bytes, other.written_bytes) == (4 * ours.read_bytes, 4 * ours.written_bytes)
    assert other.arithmetic_pj == pytest.approx(ours.arithmetic_pj * 4.6 / 0.3)


def test_blocks_of_mobilenet_v2_by_hand(mobilenet):
    blocks = {b.name: b for b in mobilenet.blocks}
    b = blocks["block3_1"]
    assert (b.input, b.output, b.stride, b.expansion, b.squeezed) == ((14, 14, 64), (14, 14, 64), 1, 6.0, None)
    assert b.nonlinearities == ("relu6",)
    assert b.cost.macs == 14 * 14 * 384 * (64 + 9 + 64)
    assert b.cost.params == 384 * (64 + 9 + 64) + 4 * (384 + 384 + 64)
    assert b.cost.written_bytes == 14 * 14 * (384 + 384 + 64 + 64)
    assert b.cost.read_bytes == 14 * 14 * (64 + 384 + 384 + 2 * 64)
    assert b.cost.weight_bytes == 384 * (64 + 9 + 64) + 4 * (384 + 384 + 64)
    assert (blocks["block3_0"].stride, blocks["stem"].expansion) == (2, None)
    whole = mobilenet.whole
    assert (whole.input, whole.output, whole.stride) == ((224, 224, 3), (1000,), 32)


def test_squeeze_and_excite_is_told_apart():
    b = next(b for b in profile(models.build("mobilenet_v3_small")).blocks if b.name == "block4")
    assert (b.expansion, b.squeezed, b.nonlinearities) == (6.0, 64, ("h_swish",))


@pytest.mark.parametrize("name", ["mobilenet_v2_0.35", "inception_v3", "shufflenet_v2", "densenet_bc_40_12"])
def test_sums_are_those_of_the_specification(name):
    spec, total = models.spec(name), profile(models.build(name, aux=True)).total
    assert (total.macs, total.params) == (spec.macs, sum(spec.params))


def test_what_follows_is_fused_only_into_its_one_reader():
    image = L.Input((4, 4, 2), name="image")
    a = L.Conv2D(2, 1, name="a")(image)  # read by the ReLU and by the addition
    b = HSwish(name="b_act")(L.Conv2D(2, 1, name="b")(L.ReLU(name="a_relu")(a)))
    c = Scale(0.1, name="c_scale")(L.Conv2D(2, 1, name="c")(b))
    x = L.Concatenate(name="both")([L.ReLU(name="sum_relu")(L.Add(name="sum")([a, c])), b])
    x = L.ReLU(name="bn_relu")(L.BatchNormalization(name="bn")(x))  # no convolution before it
    model = keras.Model(image, L.Flatten(name="flat")(x))
    found = [(o.name, o.kind, o.nonlinearity) for o in operators(model)]
    assert found == [
        ("a", "1x1", None),
        ("a_relu", "relu", None),
        ("b", "1x1", "h_swish"),
        ("c", "1x1", None),
        ("sum", "add", "relu"),
        ("both", "concat", None),
        ("bn", "bn", "relu"),
    ]


@pytest.mark.parametrize(
    ("layer", "block"),
    [
        ("stem", "stem"),
        ("stem_0_bn", "stem"),
        ("stem0_pair1_left_0_depthwise", "stem0"),
        ("head_1_depthwise", "head"),
        ("logits_dropout", "logits"),
        ("block3_1_expand", "block3_1"),
        ("block3_1_se_reduce", "block3_1"),
        ("block10_depthwise_bn", "block10"),
        ("block17_12_1_0", "block17_12"),
        ("mixed_5b", "mixed_5b"),
        ("mixed_5b_0_1", "mixed_5b"),
        ("mixed_4a_maximum", "mixed_4a"),
        ("fire2_expand3x3_relu", "fire2"),
        ("stage2_0_left_depthwise", "stage2_0"),
        ("transition1_pool", "transition1"),
        ("cell3_pair0_left", "cell3"),
        ("last_bn", "last"),
    ],
)
def test_blocks_by_name(layer, block):
    assert block_of(layer) == block


@pytest.mark.parametrize(
    ("name", "px"),
    [
        ("squeezenet_1.1", 64),
        pytest.param("mobilenet_v2_0.35", 64, marks=pytest.mark.slow),
        pytest.param("densenet_bc_40_12", 32, marks=pytest.mark.slow),
        pytest.param("inception_v3", 128, marks=pytest.mark.slow),
        pytest.param("xception", 96, marks=pytest.mark.slow),
    ],
)
def test_operators_and_peak_are_those_of_the_converted_file(name, px):
    """The float file of the same network: as many operators, in an order that peaks at the same bytes."""
    model = models.build(name, px=px)
    with silenced():
        file = tf.lite.TFLiteConverter.from_keras_model(model).convert()
        lite = Interpreter(model_content=file)
    steps = [op for op in lite._get_ops_details() if op["op_name"] != "DELEGATE"]
    bytes_of = {t["index"]: 4 * math.prod(map(int, t["shape"])) for t in lite.get_tensor_details()}
    made = {lite.get_input_details()[0]["index"], *(int(t) for op in steps for t in op["outputs"])}
    last = {int(t): i for i, op in enumerate(steps) for t in op["inputs"]}
    alive, peak = {lite.get_input_details()[0]["index"]}, 0
    for i, op in enumerate(steps):
        alive |= set(map(int, op["outputs"]))
        peak = max(peak, sum(bytes_of[t] for t in alive & made))
        alive = {t for t in alive if last.get(t, i) > i}
    ours = profile(model, FLOAT32)
    assert (len(ours.operators), ours.peak.bytes) == (len(steps), peak)
