"""What a student learns from a teacher: the terms, the hooks, and the stage with teachers of other kinds."""

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from test_sparsity import small
from test_stages import context

from tfcompact import models
from tfcompact.compress.distillation import terms
from tfcompact.compress.distillation.teachers import Pair, pairs_by_stride, stages_of
from tfcompact.data.augment import Augment
from tfcompact.data.images import normalize, pixels_of
from tfcompact.errors import UserError
from tfcompact.frameworks import keras, tf
from tfcompact.records.artifact import Normalization
from tfcompact.stages import distill
from tfcompact.training.context import Loaded

RNG = np.random.default_rng(0)
S, T = (tf.constant(RNG.normal(0, 3, (16, 5))) for _ in range(2))  # in 64 bits
Y = tf.one_hot(RNG.integers(0, 5, 16), 5, dtype=tf.float64)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_divergence_is_its_two_parts(temperature) -> None:
    """With alpha 1 and beta 1 - p_t, decoupled distillation is distillation, image by image."""
    target, others = terms.decoupled(S, T, Y, temperature)
    p = tf.reduce_sum(Y * tf.nn.softmax(T / temperature), -1)
    whole = terms.divergence(S, T, temperature)
    assert np.abs(target + (1 - p) * others - whole).max() < 1e-12


def test_a_student_that_agrees_has_no_loss_and_no_gradient() -> None:
    logits = tf.Variable(T)
    with tf.GradientTape(persistent=True) as tape:
        whole = tf.reduce_sum(terms.divergence(logits, T, 4.0))
        soft = tf.reduce_sum(terms.soft_cross_entropy(logits, T, 4.0))
        target, others = terms.decoupled(logits, T, Y, 4.0)
        parts = tf.reduce_sum(target + 8.0 * others)
    assert abs(float(whole)) < 1e-12
    assert abs(float(parts)) < 1e-12
    for loss in (whole, soft, parts):
        assert np.abs(tape.gradient(loss, logits)).max() < 1e-12


def test_cross_entropy_and_divergence_have_one_gradient() -> None:
    logits = tf.Variable(S)
    with tf.GradientTape(persistent=True) as tape:
        a, b = (tf.reduce_sum(f(logits, T, 3.0)) for f in (terms.divergence, terms.soft_cross_entropy))
    assert np.allclose(tape.gradient(a, logits), tape.gradient(b, logits), atol=1e-12)


def test_at_a_high_temperature_it_is_the_squared_difference_of_centred_logits() -> None:
    centred = (S - tf.reduce_mean(S, -1, True)) - (T - tf.reduce_mean(T, -1, True))
    expected = tf.reduce_sum(tf.square(centred), -1) / (2 * 5)
    assert np.allclose(terms.divergence(S, T, 1e4), expected, rtol=1e-3)


def test_attention_does_not_see_the_order_of_channels_nor_their_scale() -> None:
    features = tf.constant(RNG.normal(size=(2, 4, 4, 6)), tf.float32)
    turned = tf.gather(features, RNG.permutation(6), axis=-1) * 7.0
    assert float(terms.attention_loss(features, turned)) < 1e-12
    assert float(terms.attention_loss(features, features[:, ::-1])) > 1e-4


def test_features_of_other_sizes_are_averaged() -> None:
    features = tf.constant(RNG.normal(size=(2, 8, 8, 3)), tf.float32)
    assert np.allclose(terms.sized(features, 4, 4)[:, 0, 0], np.mean(features[:, :2, :2], (1, 2)), atol=1e-6)
    assert terms.sized(features, 3, 3).shape == (2, 3, 3, 3)
    assert terms.sized(features, 8, 8) is features


def test_layers_are_paired_by_stride() -> None:
    student = models.build("mobilenet_v2_0.35", px=64, classes=3)
    teacher = models.built(models.spec("googlenet_bn"), px=96, classes=3, aux=True)
    pairs = pairs_by_stride(student, teacher)
    assert [stride for stride in stages_of(student) if stride > 1] == [2, 4, 8, 16, 32]
    assert len(pairs) == 5
    for pair, stride in zip(pairs, (2, 4, 8, 16, 32), strict=True):
        assert student.get_layer(pair.student).output_shape[1] == 64 // stride
        assert teacher.get_layer(pair.teacher).output_shape[1] == 96 // stride
    assert not any(pair.teacher.startswith("aux") for pair in pairs)


@pytest.mark.parametrize(
    "normalization", [Normalization(), Normalization((1.0, 2.0, 3.0), (4.0, 5.0, 6.0), "bgr")], ids=["plain", "bgr"]
)
def test_pixels_come_back_from_what_a_network_sees(normalization) -> None:
    pixels = RNG.uniform(0, 255, (2, 4, 4, 3)).astype(np.float32)
    assert np.allclose(pixels_of(normalize(pixels, normalization), normalization), pixels, atol=1e-4)


def teacher_of(classes=("class 2", "extra", "class 0", "class 1"), px: int = 12) -> Loaded:
    """A teacher that knows the squares: each class by the channel that is brightest, at another size and scale."""
    keras.utils.set_random_seed(5)
    inputs = keras.layers.Input((px, px, 3))
    x = keras.layers.Conv2D(8, 3, 2, padding="same", name="features")(inputs)
    pooled = keras.layers.GlobalAveragePooling2D(name="colour")(inputs)
    used = keras.layers.GlobalAveragePooling2D(name="unused")(x)
    both = keras.layers.Concatenate(name="both")([pooled, used])
    logits = keras.layers.Dense(len(classes), name="logits")(both)
    model = keras.Model(inputs, logits)
    kernel = np.zeros((11, len(classes)), np.float32)
    for column, name in enumerate(classes):
        if name.startswith("class"):
            kernel[int(name[-1]), column] = 20.0
    model.get_layer("logits").set_weights([kernel, np.array([-20.0 * (n == "extra") for n in classes], np.float32)])
    return Loaded("squares/fit-1", model, px, Normalization((0.0,), (255.0,)), tuple(classes))


def with_teacher(folder: Path, teacher: Loaded):
    return dataclasses.replace(context(folder), load=lambda name: teacher)


SHORT = {"epochs": 3, "batch": 32, "ema": 0.9, "learning_rate": 1e-2}


@pytest.mark.parametrize(
    "options",
    [{}, {"kd": 0, "dkd": 1.0}, {"kd": 0, "hint": 1.0}, {"kd": 0, "attention": 100.0},
     {"dkd": 0.5, "hint": 1.0, "attention": 10.0}, {"hint": 1.0, "pairs": ("first_act:features",)}],
    ids=["kd", "dkd", "hint", "attention", "all", "named"],
)  # fmt: skip
def test_every_term_trains_a_student_and_leaves_nothing_behind(options, tmp_path) -> None:
    parent = small()
    kept = parent.get_weights()
    names = {layer.name for layer in parent.layers}
    if options.get("pairs"):
        first = next(layer.name for layer in parent.layers if layer.name.startswith("first"))
        options = options | {"pairs": (f"{first}:features",)}
    student, notes = distill.run(
        parent, distill.Config(teacher="t", **options, **SHORT), with_teacher(tmp_path, teacher_of())
    )
    assert {layer.name for layer in student.layers} == names
    assert all(np.array_equal(a, b) for a, b in zip(kept, parent.get_weights(), strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(kept, student.get_weights(), strict=True))
    assert notes["teacher"] == "squares/fit-1"
    assert bool(notes["pairs"]) == any(name in options for name in ("hint", "attention"))


def test_a_student_that_sees_no_labels_learns_the_classes_of_its_teacher(tmp_path) -> None:
    """The classes are in another order there, one more, at another size and normalization."""
    config = distill.Config(teacher="t", ce=0.0, kd=1.0, **(SHORT | {"epochs": 8}))
    _, notes = distill.run(small(), config, with_teacher(tmp_path, teacher_of()))
    assert notes["validation_accuracy"] > 0.7


def test_a_killed_distillation_ends_with_the_same_bits(tmp_path) -> None:
    config = distill.Config(teacher="t", hint=1.0, dkd=0.5, dkd_warmup=2.0, norm_batches=0, **SHORT)
    whole, _ = distill.run(small(), config, with_teacher(tmp_path / "whole", teacher_of()))
    where = with_teacher(tmp_path / "part", teacher_of())

    class Killed(Exception):
        pass

    def log(self, line, *args, **options):
        if "epoch 2/3" in str(line):
            raise Killed

    console = where.console
    where = dataclasses.replace(where, console=type("Loud", (type(console),), {"print": log})(quiet=True))
    with pytest.raises(Killed):
        distill.run(small(), config, where)
    again, _ = distill.run(small(), config, with_teacher(tmp_path / "part", teacher_of()))
    assert all(np.array_equal(a, b) for a, b in zip(whole.get_weights(), again.get_weights(), strict=True))


@pytest.mark.parametrize(
    ("options", "teacher", "words"),
    [
        ({"teacher": ""}, teacher_of, "distill needs a teacher; give a finished run with --teacher"),
        ({"kd": 0}, teacher_of, "no term of distillation has a weight"),
        ({}, lambda: teacher_of(("class 0", "class 1")), r"squares/fit-1 does not know class 'class 2' \(1 of 3 are"),
        (
            {"hint": 1.0, "pairs": ("second:features", "nowhere:features")},
            teacher_of,
            "has no layer 'nowhere' with f",
        ),
        ({"attention": 1.0, "pairs": ("second:logits",)}, teacher_of, "has no layer 'logits' with features"),
    ],
)
def test_what_cannot_be_is_one_line(options, teacher, words, tmp_path) -> None:
    config = distill.Config(**{"teacher": "t"} | options | SHORT)
    with pytest.raises(UserError, match=words) as caught:
        distill.run(small(), config, with_teacher(tmp_path, teacher()))
    assert "\n" not in str(caught.value)


def test_decoupled_distillation_and_mixed_images_do_not_go_together() -> None:
    with pytest.raises(UserError, match="dkd needs one class for each image"):
        distill.Config(teacher="t", dkd=1.0, augment=Augment(mixup=0.2))
    distill.Config(teacher="t", kd=1.0, augment=Augment(mixup=0.2, cutmix=1.0))
    with pytest.raises(UserError, match="pairs must be STUDENT:TEACHER"):
        distill.Config(teacher="t", hint=1.0, pairs=("a-b",))
    assert Pair("a", "b").teacher == "b"


def test_a_hint_does_not_depend_on_how_large_the_students_features_are() -> None:
    rng = np.random.default_rng(0)
    features, theirs = (tf.constant(rng.normal(size=(4, 3, 3, c)), tf.float32) for c in (5, 7))
    kernel = tf.constant(rng.normal(size=(5, 7)), tf.float32)
    losses = [
        float(terms.hint_loss(terms.regressed(size * features, kernel, tf.ones(7), tf.zeros(7)), theirs))
        for size in (1.0, 100.0)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    assert losses[0] < 3
