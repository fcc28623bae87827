"""Kernels in factors: tensorly's numbers, what is lost and what it costs, and networks with splits in them."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from random_weights import randomize
from test_sparsity import SHORT, small
from test_stages import context
from variants import cheapest_first

from tfcompact import models
from tfcompact.compress.channels.atoms import channels
from tfcompact.compress.decomposition import factors, ranks
from tfcompact.compress.decomposition import split_layers as splits
from tfcompact.compress.decomposition.factors import Roots
from tfcompact.errors import UserError
from tfcompact.frameworks import keras, tf
from tfcompact.networks import rewrite
from tfcompact.stages import decompose

L = keras.layers
KERNEL = np.random.default_rng(0).normal(size=(3, 3, 12, 10))


def moments(channels: int = 12, rank: int = 4, noise: float = 0.05) -> tuple[np.ndarray, np.ndarray]:
    """Inputs `[n, channels]` that mostly lie in few directions, and their second moments."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(500, rank)) @ rng.normal(size=(rank, channels)) + noise * rng.normal(size=(500, channels))
    return x, x.T @ x / len(x)


def relative(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def test_the_root_of_moments_is_one() -> None:
    _, c = moments()
    roots = Roots.of(c)
    assert relative(roots.root.T @ roots.root, c) < 1e-5
    assert relative(roots.root @ roots.inverse, np.eye(len(c))) < 1e-9
    nearly = np.outer(np.arange(5.0), np.arange(5.0))
    nearly[0, 0] = -1e-3  # as sums in 32 bits may leave it
    assert np.isfinite(Roots.of(nearly).inverse).all()


def test_svd_loses_what_it_drops() -> None:
    matrix = KERNEL[0, 0]
    values = np.linalg.svd(matrix, compute_uv=False)
    for rank in (1, 4, 9):
        first, last = factors.svd(matrix, rank, Roots.none(12))
        assert np.linalg.norm(matrix - first @ last) == pytest.approx(
            np.sqrt(np.square(values[rank:]).sum()), rel=1e-10
        )
    assert factors.spectrum(matrix, Roots.none(12)) == pytest.approx(values, rel=1e-7)


def test_full_ranks_give_the_kernel_back() -> None:
    _, c = moments()
    for roots in (Roots.none(12), Roots.of(c)):
        down, across = factors.spatial_svd(KERNEL, 30, roots)
        assert relative(np.einsum("hjir,xwro->hwio", down, across), KERNEL) < 1e-8
        first, core, last = factors.tucker2(KERNEL, (12, 10), roots)
        assert relative(np.einsum("ia,hwab,bo->hwio", first, core, last), KERNEL) < 1e-8
        one, two = factors.svd(KERNEL[0, 0], 10, roots)
        assert relative(one @ two, KERNEL[0, 0]) < 1e-8


@pytest.mark.parametrize("pair", [(4, 3), (8, 8), (12, 5)])
def test_tucker_is_tensorlys(pair) -> None:
    from tensorly.decomposition import partial_tucker
    from tensorly.tenalg import multi_mode_dot

    first, core, last = factors.tucker2(KERNEL, pair, Roots.none(12), sweeps=200)
    ours = np.einsum("ia,hwab,bo->hwio", first, core, last)
    (theirs, matrices), _ = partial_tucker(KERNEL, rank=list(pair), modes=[2, 3], n_iter_max=500, tol=1e-12)
    made = multi_mode_dot(theirs, matrices, modes=[2, 3])
    assert np.linalg.norm(KERNEL - ours) == pytest.approx(np.linalg.norm(KERNEL - made), rel=1e-4)


def test_tucker_of_a_1x1_kernel_is_its_svd() -> None:
    kernel = KERNEL[:1, :1]
    first, core, last = factors.tucker2(kernel, (5, 5), Roots.none(12))
    made = np.einsum("ia,hwab,bo->hwio", first, core, last)[0, 0]
    one, two = factors.svd(kernel[0, 0], 5, Roots.none(12))
    assert relative(made, one @ two) < 1e-6


def planted(rank: int) -> np.ndarray:
    rng = np.random.default_rng(2)
    first, window, last = (rng.normal(size=(n, rank)) for n in (12, 9, 10))
    return np.einsum("ir,sr,or->sio", first, window, last).reshape(3, 3, 12, 10)


def test_cp_finds_what_was_planted_as_tensorly_does() -> None:
    from tensorly.cp_tensor import cp_to_tensor
    from tensorly.decomposition import parafac

    kernel = planted(3)
    first, window, last = factors.cp(kernel, 3, Roots.none(12))
    assert relative(np.einsum("ir,hwr,ro->hwio", first, window[..., 0], last), kernel) < 1e-5
    noisy = kernel + 0.3 * KERNEL
    first, window, last = factors.cp(noisy, 3, Roots.none(12))
    ours = np.linalg.norm(noisy - np.einsum("ir,hwr,ro->hwio", first, window[..., 0], last))
    tensor = noisy.transpose(2, 0, 1, 3).reshape(12, 9, 10)
    theirs = cp_to_tensor(parafac(tensor, 3, n_iter_max=500, init="svd", tol=1e-10))
    assert ours <= np.linalg.norm(tensor - theirs) * 1.001


def test_a_cp_that_diverges_is_refused(monkeypatch) -> None:
    """A tensor of border rank 2 and rank 3: the nearer two terms come to it, the larger they are, and cancel."""
    a, b = np.eye(2)
    border = sum(np.einsum("i,s,o->iso", *part) for part in ((a, a, b), (a, b, a), (b, a, a)))
    kernel = border.transpose(1, 0, 2).reshape(2, 1, 2, 2)
    monkeypatch.setattr(factors, "LARGEST_TERMS", 4.0)
    monkeypatch.setattr(factors, "SWEEPS", 3000)
    with pytest.raises(UserError, match="a CP of rank 2 diverges"):
        factors.cp(kernel, 2, Roots.none(2))
    monkeypatch.setattr(factors, "SWEEPS", 3)
    factors.cp(kernel, 2, Roots.none(2))


def test_what_inputs_say_makes_the_output_s_error_smaller() -> None:
    x, c = moments()
    matrix = KERNEL[1, 1]
    for rank in (3, 5):
        plain = np.linalg.norm(x @ (matrix - np.matmul(*factors.svd(matrix, rank, Roots.none(12)))))
        aware = np.linalg.norm(x @ (matrix - np.matmul(*factors.svd(matrix, rank, Roots.of(c)))))
        assert aware < plain
    first, core, last = factors.tucker2(KERNEL, (4, 8), Roots.of(c))
    aware = KERNEL - np.einsum("ia,hwab,bo->hwio", first, core, last)
    first, core, last = factors.tucker2(KERNEL, (4, 8), Roots.none(12))
    plain = KERNEL - np.einsum("ia,hwab,bo->hwio", first, core, last)
    assert np.linalg.norm(x @ aware) < 0.5 * np.linalg.norm(x @ plain)


@pytest.mark.parametrize("rank", [2, 5, 9])
def test_evbmf_finds_a_planted_rank(rank) -> None:
    rng = np.random.default_rng(3)
    signal = rng.normal(size=(60, rank)) @ rng.normal(size=(rank, 200))
    assert factors.evbmf_rank(signal + 0.5 * rng.normal(size=(60, 200))) == rank
    assert factors.evbmf_rank((signal + 0.5 * rng.normal(size=(60, 200))).T) == rank
    assert factors.evbmf_rank(rng.normal(size=(60, 200))) <= 1


def network(name: str, classes: int = 7):
    spec = models.spec(name)
    model = models.built(spec, px=max(48, spec.min_px), classes=classes, aux=True)
    randomize(model, np.random.default_rng(0))
    return model


def all_finest(model, windows: str, multiple: int = 4, cost: str = "macs"):
    """The finest split of every layer that has one, and their roots."""
    layers = [layer for layer in splits.splittable(model) if splits.kind_of(layer, windows, True)]
    roots = {layer.name: Roots.none(int(layer.kernel.shape[-2])) for layer in layers}
    found = {}
    for layer in layers:
        kind = splits.kind_of(layer, windows, True)
        if rungs := splits.ladder(layer, kind, roots[layer.name], cost=cost, multiple=multiple):
            found[layer.name] = rungs[0]
    return found, roots


@pytest.mark.parametrize("cost", ["macs", "params"])
@pytest.mark.parametrize("windows", ["tucker", "spatial"])
@pytest.mark.parametrize("name", ["squeezenet_1.1", "mobilenet_v1_0.5"])
def test_a_split_costs_what_was_said_and_less_than_before(name, windows, cost) -> None:
    model = network(name)
    found, roots = all_finest(model, windows, 16, cost)
    assert found
    before, after = rewrite.cost(model), rewrite.cost(splits.split(model, found, roots))
    saved = sum(splits.layer_cost(model.get_layer(name), cost) - one.cost for name, one in found.items())
    assert saved > 0
    if cost == "macs":
        assert before.macs - after.macs == pytest.approx(saved)
    else:
        assert before.trainable - after.trainable == pytest.approx(saved)


@pytest.mark.parametrize("name", cheapest_first(lambda spec: True))
def test_every_family_is_split_and_computes_nearly_the_same_at_ranks_that_lose_nothing(name) -> None:
    model = network(name)
    layers = [layer for layer in splits.splittable(model)][:4]
    roots = {layer.name: Roots.none(int(layer.kernel.shape[-2])) for layer in layers}
    chosen = {}
    for layer in layers:
        kernel = splits.kernel_of(layer)
        kind = splits.kind_of(layer, "spatial" if kernel.shape[0] != kernel.shape[1] else "tucker", True)
        full = {"svd": (min(kernel.shape[2:]),), "tucker": kernel.shape[2:], "spatial": (min(
            kernel.shape[0] * kernel.shape[2], kernel.shape[1] * kernel.shape[3]),)}[kind]  # fmt: skip
        chosen[layer.name] = splits.Split(layer.name, kind, tuple(full), 0.0, 0.0)
    assert chosen, "no layer to split"
    whole = splits.split(model, chosen, roots)
    x = np.random.default_rng(1).uniform(-1, 1, (2, *model.input_shape[1:])).astype(np.float32)
    for a, b in zip(rewrite.listed(whole(x)), rewrite.listed(model(x)), strict=True):
        assert float(np.abs(a - b).max() / np.abs(b).max()) < 1e-4
    channels(whole)  # the next stage knows all its layers


def test_depthwise_grouped_and_first_layers_are_left_alone() -> None:
    names = {layer.name for layer in splits.splittable(network("mobilenet_v2_0.35"))}
    assert not any("depthwise" in name or name == "stem" for name in names)
    grouped = splits.splittable(network("shufflenet_v1_g4_0.5"))
    assert all(getattr(layer, "groups", 1) == 1 for layer in grouped)


def test_second_moments_are_those_of_what_a_layer_reads() -> None:
    model = small()
    layers = splits.splittable(model)
    images = [tf.constant(np.random.default_rng(i).uniform(-1, 1, (4, 8, 8, 3)), tf.float32) for i in range(3)]
    found = splits.second_moments(model, layers, images)
    (source,) = rewrite.calls_by_name(model)["second"].sources
    probe = rewrite.tensors(model, [source])
    values = np.concatenate([np.reshape(probe(x), (-1, found["second"].shape[0])) for x in images])
    assert found["second"] == pytest.approx(values.T @ values / len(values), rel=1e-4, abs=1e-6)


def test_greedy_steps_reach_the_share_with_little_lost() -> None:
    ladders = {
        "a": [splits.Split("a", "svd", (2,), 50.0, 0.01), splits.Split("a", "svd", (1,), 25.0, 0.5)],
        "b": [splits.Split("b", "svd", (2,), 60.0, 0.2)],
    }
    found = ranks.to_cost(ladders, {"a": 100.0, "b": 100.0}, 200.0, 0.75)
    assert {name: one.ranks for name, one in found.items()} == {"a": (2,)}
    found = ranks.to_cost(ladders, {"a": 100.0, "b": 100.0}, 200.0, 0.6)
    assert {name: one.ranks for name, one in found.items()} == {"a": (2,), "b": (2,)}
    with pytest.raises(UserError, match=r"10% of the cost cannot be reached by splitting alone: 42% are left"):
        ranks.to_cost(ladders, {"a": 100.0, "b": 100.0}, 200.0, 0.1)
    assert set(ranks.to_energy(ladders, 0.95)) == {"a"}


@pytest.mark.parametrize("options", [{"ranks": "cost", "keep": 0.8}, {"ranks": "energy", "windows": "spatial"},
                                     {"ranks": "evbmf"}, {"windows": "cp", "multiple": 1, "ranks": "energy",
                                                          "energy": 0.3}])  # fmt: skip
def test_the_stage_splits_and_leaves_the_parent_as_it_was(options, tmp_path) -> None:
    parent = small()
    kept = parent.get_weights()
    config = decompose.Config(**{"multiple": 2, "moment_images": 32} | options | SHORT)
    model, notes = decompose.run(parent, config, context(tmp_path))
    assert all(np.array_equal(a, b) for a, b in zip(kept, parent.get_weights(), strict=True))
    assert notes["splits"]
    assert notes["macs"] == rewrite.cost(rewrite.inference(model)).macs < rewrite.cost(rewrite.inference(parent)).macs
    assert len(model.outputs) == 2


def test_a_table_that_sees_no_gain_leaves_nothing_to_split(tmp_path) -> None:
    where = context(tmp_path)
    where = type(where)(**{**where.__dict__, "price": lambda model: float(len(model.layers))})
    config = decompose.Config(cost="table", multiple=2, keep=0.8, **SHORT)
    with pytest.raises(UserError, match="no split of a layer of model.* lowers its cost"):
        decompose.run(small(), config, where)
