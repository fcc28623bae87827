"""Each variant against the reference table, and against a second implementation, `tf_keras.applications`."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from tfcompact import graph, models
from tfcompact.backend import keras
from tfcompact.errors import UnknownName, UserError

GOLDEN = json.loads((Path(__file__).parent / "golden/architectures.json").read_text())
ROWS = {row["model"]: row for row in GOLDEN["entries"]}
SHARED = Path(__file__).parent.parent / os.environ.get("TFCOMPACT_TEST_DATA", "../shared/data")
REFERENCE = SHARED.parent / "reference/architectures.json"

THEIRS = {
    "mobilenet_v2_0.35": lambda px: keras.applications.MobileNetV2((px, px, 3), 0.35, **_PLAIN),
    "mobilenet_v2": lambda px: keras.applications.MobileNetV2((px, px, 3), 1.0, **_PLAIN),
    "mobilenet_v2_1.4": lambda px: keras.applications.MobileNetV2((px, px, 3), 1.4, **_PLAIN),
    "mobilenet_v3_small": lambda px: keras.applications.MobileNetV3Small(
        (px, px, 3), include_preprocessing=False, **_PLAIN
    ),
    "inception_v3": lambda px: keras.applications.InceptionV3(input_shape=(px, px, 3), **_PLAIN),
}
_PLAIN = {"weights": None, "classifier_activation": None}


@pytest.fixture(scope="module", params=list(models.specs()))
def built(request):
    """A spec and its network at the published size with 1000 classes."""
    keras.backend.clear_session()
    return models.spec(request.param), models.build(request.param)


def test_counts_are_the_reference_to_the_unit(built) -> None:
    spec, model = built
    row = ROWS[spec.name]
    assert graph.cost(model) == (row["trainable"], row["non_trainable"], row["macs"])
    assert (spec.params.trainable, spec.params.non_trainable, spec.macs) == graph.cost(model)
    assert model.input_shape == (None, row["input"], row["input"], 3)
    assert model.output_shape == (None, 1000)


def test_every_variant_has_a_row() -> None:
    assert set(models.specs()) == set(ROWS) - {"inception_v3 with aux"}


def test_golden_rows_agree_with_the_table_they_came_from() -> None:
    if not REFERENCE.is_file():
        pytest.skip(f"no reference table: {REFERENCE} is missing")
    table = {(e["family"], e["variant"]): e for e in json.loads(REFERENCE.read_text())["entries"]}
    for row in GOLDEN["entries"]:
        origin = table[row["family"], row["variant"]]
        assert {k: origin[k] for k in row if k != "model"} == {k: v for k, v in row.items() if k != "model"}


def test_names_are_unique_and_the_same_every_time(built) -> None:
    spec, model = built
    names = [layer.name for layer in model.layers]
    assert len(set(names)) == len(names)
    if spec.name in ("mobilenet_v2_0.35", "mobilenet_v3_small"):
        assert names == [layer.name for layer in models.build(spec.name).layers]
    assert model.name == spec.name
    assert not [w.name for w in model.weights if w.name.split("/")[0] not in names]


@pytest.mark.parametrize(("name", "px"), [(name, 299 if name == "inception_v3" else 224) for name in THEIRS])
def test_logits_are_those_of_keras_applications(name: str, px: int) -> None:
    assert _difference(name, px) <= 1e-4


@pytest.mark.parametrize("name", ["mobilenet_v2_0.35", "mobilenet_v3_small"])
def test_logits_are_equal_at_an_odd_size(name: str) -> None:
    """Keras pads by hand before a stride of 2, we say SAME: windows must fall alike on grids of any parity."""
    assert _difference(name, 97) <= 1e-4


def test_auxiliary_head_has_the_reference_parameters() -> None:
    row = ROWS["inception_v3 with aux"]
    model = models.build("inception_v3", aux=True)
    assert graph.cost(model)[:2] == (row["trainable"], row["non_trainable"]) == (27_143_152, 36_224)
    assert [o.shape[1:] for o in model.outputs] == [(1000,), (1000,)]
    # TF-slim's 5x5 average with stride 3 and its 5x5 convolution end at one position.
    assert model.get_layer("aux_average").output_shape == (None, 5, 5, 768)
    assert model.get_layer("aux_1").output_shape == (None, 1, 1, 768)
    assert graph.inference(model).output_shape == (None, 1000)
    assert graph.cost(graph.inference(model)) == (23_817_352, 34_432, ROWS["inception_v3"]["macs"])


def test_auxiliary_head_works_at_the_smallest_size() -> None:
    model = models.build("inception_v3", px=75, classes=7, aux=True)
    logits, side = model(np.zeros((2, 75, 75, 3), np.float32))
    assert logits.shape == side.shape == (2, 7)
    assert np.isfinite(side).all()


@pytest.mark.parametrize("name", ["mobilenet_v2_0.35", "mobilenet_v3_small"])  # inception_v3: above
def test_smallest_size_works(name: str) -> None:
    px = models.spec(name).min_px
    model = models.build(name, px=px, classes=3)
    assert model(np.zeros((1, px, px, 3), np.float32)).shape == (1, 3)


@pytest.mark.parametrize("name", ["mobilenet_v2_0.35", "mobilenet_v3_small", "inception_v3"])
def test_too_small_names_the_nearest_size_that_fits(name: str) -> None:
    least = models.spec(name).min_px
    with pytest.raises(UserError, match=rf"at least {least} px, not {least - 1}.*--px {least}$"):
        models.build(name, px=least - 1)


@pytest.mark.parametrize("px", [0, -32])
def test_zero_is_not_the_default_size(px: int) -> None:
    with pytest.raises(UserError, match="at least 32 px"):
        models.build("mobilenet_v2_0.35", px=px)


def test_unknown_model_suggests_the_nearest() -> None:
    with pytest.raises(UnknownName, match="no model named 'mobilenetv2'; did you mean mobilenet_v2"):
        models.build("mobilenetv2")
    with pytest.raises(UnknownName, match="did you mean .*mobilenet_v2_0.5"):
        models.build("mobilenet_v2_0.53")
    with pytest.raises(UnknownName, match="known: inception_v3, .*mobilenet_v3_small"):
        models.build("squid")


def _difference(name: str, px: int) -> float:
    """The largest difference of logits between ours and theirs, which has random weights and BN statistics."""
    keras.backend.clear_session()
    rng = np.random.default_rng(1)
    theirs, ours = THEIRS[name](px), models.build(name, px=px)
    for layer in theirs.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            shape = layer.moving_mean.shape
            layer.moving_mean.assign(rng.normal(0, 0.3, shape))
            layer.moving_variance.assign(rng.uniform(0.5, 1.5, shape))
            layer.beta.assign(rng.normal(0, 0.3, shape))
            if layer.scale:
                layer.gamma.assign(rng.uniform(0.7, 1.3, shape))
    pairs = list(zip(_in_order(theirs), _in_order(ours), strict=True))
    for source, target in pairs:
        assert type(source).__name__ == type(target).__name__
        target.set_weights(source.get_weights())  # refuses other shapes
    images = rng.uniform(-1, 1, (1, px, px, 3)).astype(np.float32)
    expected, found = theirs(images).numpy(), ours(images).numpy()
    difference, spread = float(np.abs(expected - found).max()), float(expected.std())
    print(f"{name} at {px} px: largest difference {difference:.1e}, standard deviation of the logits {spread:.2f}")
    assert spread > 0.1, "logits too alike to tell anything"
    return difference


def _in_order(model) -> list:
    """The layers with weights, in the order in which these were made: variables count up."""
    layers = [layer for layer in model.layers if layer.weights]
    return sorted(layers, key=lambda layer: int(layer.weights[0]._unique_id.rpartition("_")[2]))
