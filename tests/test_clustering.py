"""Kernels of few distinct integers: which codebook, how it is trained, and that the file has it."""

import itertools
import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from fake_images import FakeImages
from test_stages import context

from tfcompact.compress.clustering import codebooks
from tfcompact.compress.clustering.shared_weights import Clustered, clusterable, integers, moved_codes
from tfcompact.compress.quantization.for_xnnpack import shipped
from tfcompact.errors import UserError
from tfcompact.export import converter
from tfcompact.frameworks import keras, tf
from tfcompact.models.blocks import conv, depthwise, logits
from tfcompact.stages import cluster, prune, quantize
from tfcompact.tflite import flatbuffer
from tfcompact.training.context import Context

RNG = np.random.default_rng(0)


def normal(size: int = 4000) -> np.ndarray:
    values = RNG.normal(size=size)
    return np.rint(values / np.abs(values).max() * 127).astype(int)


@pytest.mark.parametrize("size", [2, 3, 4])
def test_the_codebook_is_the_best_there_is(size) -> None:
    counts = np.zeros(255)
    counts[127 - 6 : 127 + 7] = RNG.integers(0, 9, 13)
    best = min(codebooks.inertia(counts, np.array(codes)) for codes in itertools.combinations(range(-6, 7), size))
    assert codebooks.inertia(counts, codebooks.codebook(counts, size)) == best
    pinned = [-6, 2]
    found = codebooks.codebook(counts, size, pinned)
    with_them = (codes for codes in itertools.combinations(range(-6, 7), size) if set(pinned) <= set(codes))
    assert set(pinned) <= set(found.tolist())
    assert codebooks.inertia(counts, found) == min(codebooks.inertia(counts, np.array(c)) for c in with_them)


def test_a_codebook_is_no_worse_than_scikit_learns_k_means() -> None:
    from sklearn.cluster import KMeans

    values = normal()
    counts = codebooks.counted(values)
    theirs = KMeans(12, n_init=3, random_state=0).fit(values.reshape(-1, 1)).cluster_centers_
    assert codebooks.inertia(counts, codebooks.codebook(counts, 12)) <= codebooks.inertia(
        counts, np.rint(theirs[:, 0])
    )


def test_as_many_clusters_as_values_change_nothing() -> None:
    counts = codebooks.counted(np.array([-127, -3, 0, 5, 5, 127]))
    codes = codebooks.codebook(counts, 5)
    assert codes.tolist() == [-127, -3, 0, 5, 127]
    assert codebooks.inertia(counts, codes) == 0
    with pytest.raises(ValueError, match="3 values are pinned"):
        codebooks.codebook(counts, 2, [-127, 0, 127])
    with pytest.raises(ValueError, match="outside"):
        codebooks.counted(np.array([-128]))


def test_inertia_never_rises() -> None:
    counts = codebooks.counted(normal())
    codes = tf.constant([-127, -100, -90, 0, 3, 4, 70, 127], tf.float32)
    before = codebooks.inertia(counts, codes.numpy())
    for _ in range(20):
        codes = moved_codes(tf.constant(counts, tf.float32), codes)
        after = codebooks.inertia(counts, codes.numpy())
        assert after <= before
        assert {-127, 0, 127} <= set(codes.numpy().tolist())
        before = after


def test_entropy() -> None:
    assert codebooks.entropy(codebooks.counted(np.array([1, 2, 3, 4]))) == 2
    assert codebooks.entropy(codebooks.counted(np.array([7, 7]))) == 0


@pytest.fixture(scope="module")
def quantized(tmp_path_factory):
    """A quantized network that was pruned to three quarters of zeros, with a depthwise layer."""
    keras.utils.set_random_seed(3)
    inputs = keras.layers.Input((8, 8, 3), name="image")
    x = depthwise(conv(inputs, 16, 3, 2, act="relu6", name="first"), 3, name="filter")
    x = conv(conv(x, 24, name="second"), 32, 3, name="third")
    model = keras.Model(inputs, logits(keras.layers.GlobalAveragePooling2D(name="pool")(x), 3, dropout=0.1))
    short = {"epochs": 4, "ema": 0.9}
    sparse, _ = prune.run(
        model, prune.Config(structure="weights", sparsity=0.5, **short), context(tmp_path_factory.mktemp("prune"))
    )
    config = quantize.Config(epochs=0, calibration_images=64)
    return quantize.run(sparse, config, context(tmp_path_factory.mktemp("quantize")))[0]


def test_which_kernels(quantized) -> None:
    assert [layer.name for layer in clusterable(quantized)] == ["second", "third", "logits"]


def test_enough_clusters_are_the_identity(quantized, tmp_path) -> None:
    model, notes = cluster.run(quantized, cluster.Config(clusters=255, epochs=0), context(tmp_path))
    assert all(
        np.array_equal(integers(ours), integers(theirs))
        for ours, theirs in zip(clusterable(model), clusterable(quantized), strict=True)
    )
    images = FakeImages(train=8).arrays("train", px=8)[0].astype(np.float32) / 127.5 - 1
    assert np.abs(model(images) - quantized(images)).max() < 1e-5
    assert notes["zipped_weight_bytes"][0] == notes["zipped_weight_bytes"][1]


def test_the_file_has_no_more_values_than_clusters_and_its_zeros(quantized, tmp_path) -> None:
    before = {layer.name: integers(layer) for layer in clusterable(quantized)}
    model, notes = cluster.run(
        quantized, cluster.Config(clusters=8, epochs=2, learning_rate=1e-2), context(tmp_path / "run")
    )
    content = flatbuffer.parsed(converter.convert(shipped(model), "int8", np.zeros((1, 8, 8, 3), np.float32)))
    stored = [
        content.buffers[tensor.buffer].data.view(np.int8)
        for tensor in content.subgraphs[0].tensors
        if flatbuffer.is_constant(content, tensor)
    ]
    changed = 0
    for layer in clusterable(model):
        ours = integers(layer)
        of_file = np.moveaxis(ours, -1, 0).reshape(-1)
        assert [values for values in stored if np.array_equal(values, of_file)]
        assert len(np.unique(ours)) <= 8
        assert not ours[before[layer.name] == 0].any() or layer.name == "logits"
        changed += int((ours != before[layer.name]).sum())
    assert changed, "nothing was clustered"
    assert max(row["values"][1] for row in notes["clusters"].values()) <= 8
    assert notes["zipped_weight_bytes"][1] < notes["zipped_weight_bytes"][0]
    json.dumps(notes)


def test_it_is_the_same_after_a_kill(quantized, tmp_path, monkeypatch) -> None:
    config = cluster.Config(clusters=8, epochs=2, learning_rate=1e-2)
    whole, notes = cluster.run(quantized, config, context(tmp_path / "whole"))

    def interrupt(self, line: str) -> None:
        if line.startswith("epoch 1/2"):
            raise KeyboardInterrupt

    monkeypatch.setattr(Context, "log", interrupt)
    with pytest.raises(KeyboardInterrupt):
        cluster.run(quantized, config, context(tmp_path / "run"))
    monkeypatch.undo()
    resumed, again = cluster.run(quantized, config, context(tmp_path / "run"))
    assert again == notes
    assert all(map(np.array_equal, whole.get_weights(), resumed.get_weights()))


def test_its_rounding_is_in_place_only_while_it_trains(quantized) -> None:
    from tfcompact.networks import rewrite

    network = rewrite.clone(quantized)
    images = FakeImages(train=8).arrays("train", px=8)[0].astype(np.float32) / 127.5 - 1
    hook = Clustered(clusterable(network), 6)
    plain = network(images).numpy()
    hook.enter()
    inside = network(images).numpy()
    hook.leave()
    after = network(images).numpy()
    assert np.abs(inside - plain).max() > 1e-3
    assert np.abs(after - inside).max() < 1e-5


@pytest.mark.parametrize(
    ("options", "words"), [({"clusters": 3}, "from 4 to 255"), ({"distill": 2}, "in \\[0, 1\\]")]
)
def test_refusals(options, words) -> None:
    with pytest.raises(UserError, match=words):
        cluster.Config(**options)
