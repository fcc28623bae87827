"""Rebuilding a network by a rule, walking it, counting its cost."""

import numpy as np
import pytest

from tfcompact import models
from tfcompact.frameworks import keras, tf
from tfcompact.networks import rewrite

L = keras.layers
IMAGES = np.random.default_rng(0).uniform(-1, 1, (2, 75, 75, 3)).astype(np.float32)


@pytest.fixture(scope="module", params=["mobilenet_v2_0.35", "mobilenet_v3_small", "inception_v3"])
def network(request):
    return models.build(request.param, px=75, classes=5, aux=True)


def branched():
    """Two inputs, a layer used twice, an operator written as `*`, a `call` with keyword arguments, two outputs."""
    a, b = L.Input((4,), name="a"), L.Input((4,), name="b")
    shared = L.Dense(4, activation="tanh", name="shared")
    joined = L.Add(name="add")([shared(a), shared(b) * 2.0])
    attention = L.MultiHeadAttention(1, 2, name="attention")
    seen = attention(query=L.Reshape((2, 2), name="pairs")(joined), value=L.Reshape((2, 2), name="others")(a))
    return keras.Model([a, b], [L.Flatten(name="flat")(seen), joined])


def test_clone_computes_the_same_and_shares_nothing(network) -> None:
    copy = rewrite.clone(network)
    for ours, theirs in zip(_outputs(copy, IMAGES), _outputs(network, IMAGES), strict=True):
        assert np.array_equal(ours, theirs)
    assert [layer.name for layer in copy.layers] == [layer.name for layer in network.layers]
    before = [w.copy() for w in network.get_weights()]
    for variable in copy.variables:
        variable.assign(variable + 1)
    assert all(map(np.array_equal, before, network.get_weights()))


def test_keyword_only_calls_survive() -> None:
    model = branched()
    x = [np.random.default_rng(i).normal(size=(3, 4)).astype(np.float32) for i in range(2)]
    for ours, theirs in zip(_outputs(rewrite.clone(model), x), _outputs(model, x), strict=True):
        assert np.array_equal(ours, theirs)


def test_shared_layers_stay_shared() -> None:
    a = L.Input((4,))
    shared = L.Dense(4, name="shared")
    model = keras.Model(a, L.Add(name="add")([shared(a), shared(shared(a))]))
    copy = rewrite.clone(model)
    x = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    assert np.array_equal(copy(x), model(x))
    assert len(copy.weights) == 2


def test_inputs_and_outputs_keep_their_order() -> None:
    a, b = L.Input((2,), name="a"), L.Input((3,), name="b")
    model = keras.Model([b, a], [L.ReLU(name="of_a")(a), L.ReLU(name="of_b")(b)], name="pair")
    copy = rewrite.clone(model)
    assert [t.shape for t in copy.inputs] == [t.shape for t in model.inputs]
    assert [t.shape for t in copy.outputs] == [t.shape for t in model.outputs]
    assert copy.name == "pair"


def test_a_rule_replaces_inserts_and_removes() -> None:
    a = L.Input((4,))
    x = L.ReLU(name="relu")(a)
    model = keras.Model(a, L.Add(name="add")([L.Dense(4, name="dense")(x), a]))
    seen = []

    def rule(layer, x):
        seen.append((layer.name, isinstance(x, list)))
        if layer.name == "relu":
            return x  # removed
        if layer.name == "add":
            return L.Multiply(name="times")(x)
        return None

    changed = rewrite.rewrite(model, rule)
    assert seen == [("relu", False), ("dense", False), ("add", True)]  # several inputs come as a list
    values = np.array([[-1.0, 2.0, 3.0, -4.0]], np.float32)
    dense = model.get_layer("dense")
    np.testing.assert_allclose(changed(values), dense(values) * values, rtol=1e-6)
    np.testing.assert_allclose(model(values), dense(np.maximum(values, 0)) + values, rtol=1e-6)


def test_frozen_layers_stay_frozen() -> None:
    model = keras.Sequential([L.Input((3,)), L.Dense(2, trainable=False, name="frozen"), L.Dense(2, name="free")])
    copy = rewrite.clone(model)
    assert [layer.trainable for layer in copy.layers if layer.weights] == [False, True]


def test_calls_are_in_topological_order_with_their_neighbours(network) -> None:
    rows = {layer.name: (sources, readers) for layer, sources, readers in rewrite.calls(network)}
    assert set(rows) == {layer.name for layer in network.layers}
    position = {name: i for i, name in enumerate(rows)}
    for name, (sources, readers) in rows.items():
        assert all(position[s] < position[name] for s in sources)
        assert all(name in rows[r][0] for r in readers)
        assert all(name in rows[s][1] for s in sources)


def test_calls_see_a_tensor_that_is_read_twice() -> None:
    a = L.Input((4,), name="a")
    x = L.ReLU(name="relu")(a)
    model = keras.Model(a, L.Add(name="add")([x, x]))
    rows = {layer.name: (sources, readers) for layer, sources, readers in rewrite.calls(model)}
    assert rows["add"] == (["relu", "relu"], [])
    assert rows["relu"] == (["a"], ["add", "add"])


def test_inference_drops_the_auxiliary_head() -> None:
    model = models.build("inception_v3", px=75, classes=5, aux=True)
    shipped = rewrite.inference(model)
    assert not [layer.name for layer in shipped.layers if layer.name.startswith("aux")]
    assert np.array_equal(shipped(IMAGES), model(IMAGES)[0])
    assert rewrite.inference(shipped) is shipped


def test_tensors_gives_named_outputs_in_order(network) -> None:
    names = [layer.name for layer in network.layers if layer.weights][3:0:-1]
    for name, value in zip(names, rewrite.tensors(network, names)(IMAGES), strict=True):
        assert value.shape[1:] == network.get_layer(name).output_shape[1:]


@pytest.mark.parametrize(
    ("layer", "macs"),
    [  # input 8 x 8 x 6
        (lambda: L.Conv2D(10, 3, strides=2, padding="same"), 4 * 4 * 10 * 6 * 9),
        (lambda: L.Conv2D(10, 3, groups=2), 6 * 6 * 10 * 3 * 9),
        (lambda: L.DepthwiseConv2D((3, 5), padding="same", depth_multiplier=2), 8 * 8 * 12 * 15),
        (lambda: L.SeparableConv2D(10, 3, padding="same"), 8 * 8 * (6 * 9 + 6 * 10)),
        (lambda: L.Dense(7), 8 * 8 * 6 * 7),
        (lambda: L.BatchNormalization(), 0),
        (lambda: L.GlobalAveragePooling2D(), 0),
    ],
)
def test_macs_by_hand(layer, macs: int) -> None:
    a = L.Input((8, 8, 6))
    assert rewrite.cost(keras.Model(a, layer()(a))).macs == macs


def test_cost_of_a_quantized_network_is_that_of_the_network() -> None:
    from tfcompact.compress.quantization import lowering, wrapping

    a = L.Input((8, 8, 3))
    x = L.ReLU()(L.BatchNormalization()(L.DepthwiseConv2D(3)(L.Conv2D(8, 3, padding="same")(a))))
    low = lowering.lower(keras.Model(a, L.Dense(5)(L.GlobalAveragePooling2D()(x))))
    cost, quantized = rewrite.cost(low), rewrite.cost(wrapping.quantized(low))
    assert (quantized.trainable, quantized.macs) == (cost.trainable, cost.macs)


def _outputs(model, x) -> list[np.ndarray]:
    return [t.numpy() for t in tf.nest.flatten(model(x))]
