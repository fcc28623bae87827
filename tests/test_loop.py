"""The training loop: reproducible, resumable to the bit, and true to its options."""

import csv
import hashlib
import io
import json
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

sys.path.insert(0, str(Path(__file__).parent))
from fake_images import FakeImages

from tfcompact.errors import UserError
from tfcompact.frameworks import keras, tf
from tfcompact.models.blocks import conv, drop, logits
from tfcompact.networks import rewrite
from tfcompact.records.artifact import Normalization
from tfcompact.stages import fit
from tfcompact.training import checkpoint, evaluation, loop, norms, progress
from tfcompact.training.context import Context
from tfcompact.training.optimizers import optimizer_for

L = keras.layers
PLAIN = {"norm_batches": 0, "ema": 0.0, "label_smoothing": 0.0, "weight_decay": 0.0, "clip_norm": 0.0}


def network(*, aux: bool = False, norm: bool = True, dropout: float = 0.3, classes: int = 3):
    """Two convolutions with dropout in between, so that what it draws reaches the statistics of the second's norm."""
    keras.utils.set_random_seed(11)
    inputs = L.Input((8, 8, 3), name="image")
    if norm:
        x = conv(inputs, 6, 3, 2, name="first")
        x = drop(x, dropout, name="drop") if dropout else x
        x = conv(x, 8, 3, name="second")
    else:
        x = L.Conv2D(8, 3, activation="relu", name="first")(inputs)
    x = L.GlobalAveragePooling2D(name="pool")(x)
    ends = [logits(x, classes, dropout=dropout)]
    if aux:
        ends.append(L.Dense(classes, name="aux")(x))
    return keras.Model(inputs, ends if aux else ends[0])


class Interrupting(Console):
    """A console that raises when it is told a line that begins with `at`."""

    def __init__(self, at: str | None = None) -> None:
        super().__init__(file=io.StringIO(), force_terminal=False)
        self.at, self.lines = at, []

    def print(self, *objects, **options) -> None:
        self.lines.append(str(objects[0]) if objects else "")
        if self.at and self.lines[-1].startswith(self.at):
            raise KeyboardInterrupt


def context(directory: Path, *, seed: int = 0, at: str | None = None, data=None) -> Context:
    return Context(
        spec=SimpleNamespace(name="tiny", aux_weight=0.4),
        data=data or FakeImages(),
        px=8,
        normalization=Normalization(),
        seed=seed,
        directory=directory,
        console=Interrupting(at),
    )


def options(**changes) -> fit.Config:
    return fit.Config(**({"epochs": 4, "batch": 16, "warmup_epochs": 1.0, "norm_batches": 3, "ema": 0.9} | changes))


def outcome(directory: Path, config: fit.Config, **where) -> dict[str, str]:
    """A digest of everything a training leaves: weights, last weights, log, notes."""
    directory.mkdir(exist_ok=True)
    keras.backend.clear_session()
    result, notes = fit.run(network(), config, context(directory, **where))
    return digests(directory, result, notes)


def digests(directory: Path, result, notes) -> dict[str, str]:
    with np.load(directory / "last.npz") as last:
        kept = [last[name] for name in sorted(last.files)]
    return {
        "weights": _digest(result.get_weights()),
        "last": _digest(kept),
        "metrics": (directory / "metrics.csv").read_text(),
        "notes": json.dumps(notes),
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict[str, str]:
    """What four epochs in one go leave."""
    return outcome(tmp_path_factory.mktemp("whole") / "run", options())


def test_same_seed_same_everything(whole, tmp_path) -> None:
    assert outcome(tmp_path / "run", options()) == whole


def test_another_seed_other_weights(whole, tmp_path) -> None:
    assert outcome(tmp_path / "run", options(), seed=1)["weights"] != whole["weights"]


@pytest.mark.parametrize("epoch", [1, 3, 4])
def test_interrupted_after_an_epoch_it_ends_the_same(epoch: int, whole, tmp_path) -> None:
    with pytest.raises(KeyboardInterrupt):
        outcome(tmp_path / "run", options(), at=f"epoch {epoch}/4")
    assert outcome(tmp_path / "run", options()) == whole


def test_interrupted_within_an_epoch_it_ends_the_same(whole, tmp_path, monkeypatch) -> None:
    steps = iter(range(100))

    def stop_in_the_third_epoch(self, batch, logs=None) -> None:
        if next(steps) == 9:
            raise KeyboardInterrupt

    monkeypatch.setattr(progress.Epochs, "on_train_batch_end", stop_in_the_third_epoch)
    with pytest.raises(KeyboardInterrupt):
        outcome(tmp_path / "run", options())
    monkeypatch.undo()
    assert len(_rows(tmp_path / "run")) == 2
    assert outcome(tmp_path / "run", options()) == whole


def test_killed_between_the_last_checkpoint_and_its_line_the_log_is_whole(whole, tmp_path, monkeypatch) -> None:
    add = progress.Log.add

    def die_at_the_last(self, row) -> None:
        if row["epoch"] == 4:
            raise KeyboardInterrupt
        add(self, row)

    monkeypatch.setattr(progress.Log, "add", die_at_the_last)
    with pytest.raises(KeyboardInterrupt):
        outcome(tmp_path / "run", options())
    monkeypatch.undo()
    assert outcome(tmp_path / "run", options()) == whole


def test_called_again_after_the_end_it_trains_no_more(whole, tmp_path) -> None:
    outcome(tmp_path / "run", options())
    assert outcome(tmp_path / "run", options(), at="epoch") == whole


@pytest.mark.slow
def test_killed_for_real_it_ends_the_same(whole, tmp_path) -> None:
    """SIGKILL at three moments of one training, in processes of their own; then to the end."""
    script = f"""
import os, runpy, signal, sys
tests = runpy.run_path({str(Path(__file__))!r})
steps, stop = iter(range(1000)), int(sys.argv[1])
def die(self, batch, logs=None):
    if next(steps) == stop:
        os.kill(os.getpid(), signal.SIGKILL)
tests["progress"].Epochs.on_train_batch_end = die
result = tests["outcome"](tests["Path"]({str(tmp_path / "run")!r}), tests["options"]())
print("OUTCOME", result)
"""
    for stop in (5, 2, 6):  # in the second epoch; again in the second; in the third
        assert _python(script, stop).returncode == -signal.SIGKILL
    ended = _python(script, 999)
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert f"OUTCOME {whole}" in ended.stdout


def test_events_hold_each_epoch_once_after_a_resume(tmp_path) -> None:
    with pytest.raises(KeyboardInterrupt):
        outcome(tmp_path / "run", options(), at="epoch 2/4")
    outcome(tmp_path / "run", options())
    steps = [
        event.step
        for file in (tmp_path / "run/tensorboard").glob("*")
        for event in tf.compat.v1.train.summary_iterator(str(file))
        for value in event.summary.value
        if value.tag == "validation_accuracy"
    ]
    assert steps == [1, 2, 3, 4]


def test_it_learns_and_keeps_the_best(tmp_path) -> None:
    told = context(tmp_path, data=FakeImages(train=256))
    result, notes = fit.run(network(dropout=0.0), options(epochs=6, norm_batches=0, learning_rate=1e-2), told)
    rows = _rows(tmp_path)
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])
    assert notes["validation_accuracy"] == max(float(row["validation_accuracy"]) for row in rows) > 0.8
    best = next(row for row in rows if float(row["validation_accuracy"]) == notes["validation_accuracy"])
    assert notes["best_epoch"] == int(best["epoch"])
    batches = told.data.batches("validation", px=8, batch=16, normalization=Normalization())
    loss, accuracy = evaluation.evaluator(result)(batches)
    assert accuracy == notes["validation_accuracy"]
    assert loss == pytest.approx(float(best["validation_loss"]), rel=1e-5)
    assert [line.startswith(f"epoch {i + 1}/6: loss ") for i, line in enumerate(told.console.lines)] == [True] * 6
    assert told.console.lines[-1].endswith("0:00 left")


def test_the_input_network_is_left_alone(tmp_path) -> None:
    model = network()
    before = [w.copy() for w in model.get_weights()]
    result, _ = fit.run(model, options(epochs=1), context(tmp_path))
    assert all(map(np.array_equal, before, model.get_weights()))
    assert not all(map(np.array_equal, before, result.get_weights()))


def test_no_epochs_train_nothing(tmp_path) -> None:
    model = network()
    result, notes = fit.run(model, options(epochs=0), context(tmp_path))
    assert notes["epochs"] == 0
    assert all(map(np.array_equal, model.get_weights(), result.get_weights()))


def test_what_is_kept_is_the_moving_average(tmp_path, monkeypatch) -> None:
    steps = []
    monkeypatch.setattr(
        progress.Epochs,
        "on_train_batch_end",
        lambda self, *_: steps.append(self.state.trainer.network.get_weights()),
    )
    model = network()
    result, _ = fit.run(model, options(epochs=2, ema=0.5, norm_batches=0), context(tmp_path))
    expected = model.get_weights()
    averages = []
    for t, weights in enumerate(steps, start=1):
        decay = min(0.5, (1 + t) / (10 + t))
        expected = [decay * a + (1 - decay) * w for a, w in zip(expected, weights, strict=True)]
        averages.append(expected)
    with np.load(tmp_path / "last.npz") as last:
        for name, value in zip(sorted(last.files), averages[-1], strict=True):
            np.testing.assert_allclose(last[name], value, rtol=1e-4, atol=1e-6)
    kept = result.get_weights()
    assert any(all(map(np.allclose, kept, ends)) for ends in (averages[3], averages[7]))  # of the better epoch


@pytest.mark.parametrize(("epoch_images", "steps"), [(0, 4), (32, 2), (1000, 4)])
def test_epochs_and_validation_of_some_images(tmp_path, epoch_images, steps) -> None:
    told, seen = context(tmp_path), {"training": 0, "validation": 0}

    def counting(name, batches):
        def count(*args, **options):
            def add(images, labels):
                seen[name] += len(images)
                return images, labels

            data = batches(*args, **options)
            signature = data.element_spec
            return data.map(lambda x, y: tf.numpy_function(add, [x, y], [x.dtype, y.dtype])).map(
                lambda x, y: (tf.ensure_shape(x, signature[0].shape), tf.ensure_shape(y, signature[1].shape))
            )

        return count

    told.data.training = counting("training", told.data.training)
    told.data.batches = counting("validation", told.data.batches)
    loop.train(network(), options(epochs=2, norm_batches=0, epoch_images=epoch_images, validation_images=9), told)
    assert seen == {"training": 2 * steps * 16, "validation": 2 * 9}
    with pytest.raises(UserError, match="epoch_images must be 0 or more"):
        options(epoch_images=-1)


def test_early_stopping_waits_as_long_as_told_and_does_not_go_on_later(tmp_path) -> None:
    config = options(epochs=9, early_stopping=2, learning_rate=1e-12, ema=0.0, norm_batches=0)
    result, notes = fit.run(network(norm=False), config, context(tmp_path))
    assert (notes["epochs"], notes["best_epoch"]) == (3, 1)
    _, again = fit.run(network(norm=False), config, context(tmp_path, at="epoch"))
    assert again == notes


@pytest.mark.parametrize("name", ["adamw", "sgd", "rmsprop"])
def test_weight_decay_spares_biases_and_norms(name: str) -> None:
    """Without a gradient only the decay acts: lr * decay of each kernel a step."""
    model = network()
    for variable in model.trainable_variables:
        variable.assign(tf.ones_like(variable))
    config = options(optimizer=name, weight_decay=0.1, learning_rate=0.5, warmup_epochs=0, epochs=100)
    optimizer = optimizer_for(config, 100, model)
    zeros = [tf.zeros_like(v) for v in model.trainable_variables]
    optimizer.apply_gradients(zip(zeros, model.trainable_variables, strict=True))
    for variable in model.trainable_variables:
        expected = 0.95 if variable.shape.rank >= 2 else 1.0
        np.testing.assert_allclose(variable, np.full(variable.shape, expected), rtol=1e-6, err_msg=variable.name)
    assert {v.shape.rank for v in model.trainable_variables} == {1, 2, 4}


def test_the_learning_rate_rises_in_a_line_and_falls_as_a_cosine() -> None:
    config = options(learning_rate=0.1, warmup_epochs=2, epochs=10)
    rate = optimizer_for(config, 10, network())._learning_rate
    values = [float(rate(step)) for step in range(101)]
    np.testing.assert_allclose(values[:21], np.linspace(0, 0.1, 21), atol=1e-7)
    np.testing.assert_allclose(values[20:], 0.05 * (1 + np.cos(np.pi * np.arange(81) / 80)), atol=1e-7)


@pytest.mark.parametrize("epochs", [1, 2])
def test_a_warm_up_as_long_as_the_training_leaves_a_step_to_train_with(epochs: int) -> None:
    rate = optimizer_for(options(learning_rate=0.1, warmup_epochs=5, epochs=epochs), 1, network())._learning_rate
    assert float(rate(epochs - 1)) == pytest.approx(0.1)


def test_the_loss_counts_class_weights_smoothing_and_the_auxiliary_head(tmp_path) -> None:
    model, data = network(aux=True, norm=False, dropout=0.0), FakeImages()
    config = options(**PLAIN | {"label_smoothing": 0.2, "class_weights": True}, epochs=1, learning_rate=1e-12)
    fit.run(model, config, context(tmp_path, data=data))
    images = ((data.images["train"] - 127.5) / 127.5).astype(np.float32)
    labels = np.eye(3)[data.labels["train"]] * 0.8 + 0.2 / 3
    weights = np.array(data.class_weights())[data.labels["train"]]
    main, side = (-(labels * tf.nn.log_softmax(end).numpy()).sum(1) for end in model(images))
    assert float(_rows(tmp_path)[0]["loss"]) == pytest.approx(float((weights * (main + 0.4 * side)).mean()), rel=1e-5)


def test_class_weights_are_off_unless_asked_for(tmp_path) -> None:
    model, data = network(norm=False, dropout=0.0), FakeImages()
    fit.run(model, options(**PLAIN, epochs=1, learning_rate=1e-12), context(tmp_path, data=data))
    images = ((data.images["train"] - 127.5) / 127.5).astype(np.float32)
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(data.labels["train"], model(images))
    assert float(_rows(tmp_path)[0]["loss"]) == pytest.approx(float(np.mean(losses)), rel=1e-5)


def test_norm_statistics_are_the_mean_over_batches() -> None:
    model = network(dropout=0.0)
    weights = [w.numpy() for w in model.trainable_variables]
    batches = FakeImages().training(
        px=8, batch=16, normalization=Normalization(), augment=None, seed=0, start_epoch=0, epochs=1
    )
    norm = model.get_layer("first_bn")
    norm.momentum = 0.9
    norms.reestimate_norms(model, batches, 3)
    values = [rewrite.tensors(model, ["first", "pool"])(x)[0].numpy() for x, _ in batches.take(3)]
    np.testing.assert_allclose(
        norm.moving_mean, np.mean([v.mean((0, 1, 2)) for v in values], 0), rtol=1e-4, atol=1e-6
    )
    n = values[0][..., 0].size
    expected = np.mean([v.var((0, 1, 2)) for v in values], 0)
    ratio = norm.moving_variance.numpy() / expected
    assert ratio == pytest.approx(1, rel=1e-4) or ratio == pytest.approx(n / (n - 1), rel=1e-4)  # Bessel's, if fused
    assert norm.momentum == 0.9
    assert all(map(np.array_equal, weights, model.trainable_variables))


def test_a_loss_that_is_no_number_ends_it_with_the_remedy(tmp_path) -> None:
    with pytest.raises(UserError, match=r"the loss became nan in epoch 1; .* --learning-rate 0\.0005$"):
        fit.run(network(), options(learning_rate=2e-3), context(tmp_path, data=FakeImages(spoilt=True)))


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_trains_in_it_and_gives_back_float32(policy: str, tmp_path, monkeypatch) -> None:
    seen = []
    finish = checkpoint.State.finish
    monkeypatch.setattr(
        checkpoint.State, "finish", lambda self, *a, **k: (seen.append(self.trainer), finish(self, *a, **k))
    )
    result, notes = fit.run(network(), options(epochs=2, precision=policy), context(tmp_path))
    assert notes["precision"] == policy
    trainer = seen[0]
    assert trainer.network.get_layer("second").compute_dtype == policy.removeprefix("mixed_")
    # float16 underflows: without a scaled loss small gradients are lost
    assert isinstance(trainer.optimizer, keras.mixed_precision.LossScaleOptimizer) == (policy == "mixed_float16")
    assert {layer.compute_dtype for layer in result.layers} == {"float32"}
    assert {v.dtype.name for v in result.variables} == {"float32"}
    assert np.isfinite(result(np.zeros((1, 8, 8, 3), np.float32))).all()


@pytest.mark.parametrize("policy", ["mixed_float16", pytest.param("mixed_bfloat16", marks=pytest.mark.slow)])
def test_mixed_precision_resumes_to_the_bit(policy: str, tmp_path) -> None:
    config = options(epochs=3, precision=policy)
    expected = outcome(tmp_path / "whole", config)
    with pytest.raises(KeyboardInterrupt):
        outcome(tmp_path / "run", config, at="epoch 1/3")
    assert outcome(tmp_path / "run", config) == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": -1}, "epochs must be 0 or more, not -1"),
        ({"batch": 0}, "batch must be 1 or more, not 0"),
        ({"ema": 1.0}, r"ema must be in \[0, 1\), not 1.0"),
        ({"learning_rate": 0.0}, "learning_rate must be positive"),
        ({"learning_rate": float("nan")}, "learning_rate must be positive"),
        ({"optimizer": "adam"}, "no optimizer named 'adam'; did you mean adamw"),
        ({"precision": "float16"}, "no precision named 'float16'; did you mean"),
    ],
)
def test_senseless_options_are_refused(change, message: str) -> None:
    with pytest.raises(UserError, match=message):
        options(**change)


@pytest.mark.slow
def test_two_devices_train_as_one_does(tmp_path) -> None:
    """MirroredStrategy over two logical CPUs: the global batch and the learning rate mean the same."""
    script = f"""
import runpy, sys
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
tests = runpy.run_path({str(Path(__file__))!r})
devices = ["CPU:0", "CPU:1"][: int(sys.argv[1])]
strategy = tf.distribute.MirroredStrategy(devices, cross_device_ops=tf.distribute.ReductionToOneDevice())
folder = tests["Path"]({str(tmp_path)!r}) / f"run{{sys.argv[1]}}"
folder.mkdir()
with strategy.scope():
    model = tests["network"](norm=False, dropout=0.0)
    config = tests["options"](**tests["PLAIN"], epochs=2, optimizer="sgd", learning_rate=0.05)
    result, notes = tests["fit"].run(model, config, tests["context"](folder))
tests["np"].savez(folder / "result.npz", *result.get_weights())
"""
    weights = []
    for count in (1, 2):
        child = _python(script, count)
        assert child.returncode == 0, child.stderr[-3000:]
        with np.load(tmp_path / f"run{count}/result.npz") as saved:
            weights.append([saved[name] for name in saved.files])
    for one, two in zip(*weights, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-5)


def _python(script: str, *arguments: object) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)], capture_output=True, text=True, check=False
    )


def _rows(directory: Path) -> list[dict[str, str]]:
    with (directory / "metrics.csv").open() as stream:
        return list(csv.DictReader(stream))


def _digest(arrays) -> str:
    return hashlib.sha256(b"".join(np.ascontiguousarray(a).tobytes() for a in arrays)).hexdigest()[:16]
