"""Training batches: a function of seed, epoch and place, whoever computes them and wherever one starts."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tfcompact.data import NO_AUGMENT, Augment, open_images
from tfcompact.data.augment import Layers, boxes, crops
from tfcompact.data.images import decode, fit_square, normalize, stretch
from tfcompact.data.randomness import stateless
from tfcompact.errors import UserError
from tfcompact.frameworks import keras_cv, tf
from tfcompact.records.artifact import Normalization

PLAIN = Normalization()
DEFAULT = Augment()
EVERYTHING = Augment(jitter=0.3, rand_augment=2, erase=0.4, mixup=0.2, cutmix=1.0)
KINDS = {
    "default": Augment(),
    "flip": Augment(flip=True, crop=False),
    "jitter": Augment(flip=False, crop=False, jitter=0.4),
    "rand_augment": Augment(flip=False, crop=False, rand_augment=2),
    "erase": Augment(flip=False, crop=False, erase=0.5),
    "mixup": Augment(flip=False, crop=False, mixup=0.4),
    "cutmix": Augment(flip=False, crop=False, cutmix=1.0),
    "everything": EVERYTHING,
}
# Tracing RandAugment's ten layers takes seconds; each property is tested with it once, the rest of times if --slow.
QUICK = [name for name in KINDS if name not in ("rand_augment", "everything")]
SLOW = {name: pytest.param(name, marks=pytest.mark.slow) for name in ("rand_augment", "everything")}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Three classes of 20 smooth pictures, wide, high and square."""
    root = tmp_path_factory.mktemp("data")
    random = np.random.default_rng(0)
    for k, name in enumerate(("wide", "high", "square")):
        (root / "photos" / name).mkdir(parents=True)
        for i in range(20):
            coarse = Image.fromarray(random.integers(0, 256, (4, 4, 3)).astype(np.uint8))
            coarse.resize(((64, 36), (36, 64), (48, 48))[k]).save(root / "photos" / name / f"{i}.png")
    return open_images(str(root / "photos"), cache=root / "cache")


def batches(images, *, augment=DEFAULT, seed=3, start_epoch=0, epochs=2, px=32, batch=8, normalization=PLAIN, **more):
    data = images.training(
        px=px,
        batch=batch,
        normalization=normalization,
        augment=augment,
        seed=seed,
        start_epoch=start_epoch,
        epochs=epochs,
        **more,
    )
    return [(x, y) for x, y in data.as_numpy_iterator()]


def same(a, b) -> bool:
    return all(np.array_equal(x, u) and np.array_equal(y, v) for (x, y), (u, v) in zip(a, b, strict=True))


def test_shapes_types_and_range(photos):
    x, y = batches(photos, epochs=1)[0]
    assert x.shape == (8, 32, 32, 3)
    assert y.shape == (8, 3)
    assert x.dtype == y.dtype == np.float32
    assert x.min() >= -1
    assert x.max() <= 1
    np.testing.assert_array_equal(y.sum(1), 1)
    assert len(batches(photos, epochs=1)) == photos.steps_per_epoch(8) == photos.sizes["train"] // 8


def test_an_epoch_of_some_images_has_others_each_time(photos):
    """Asked for more than there are, all of them; for some, the first of each epoch's own order."""
    some = batches(photos, augment=NO_AUGMENT, epochs=2, epoch_images=16)
    assert len(some) == 2 * photos.steps_per_epoch(8, 16) == 4
    assert not same(some[:2], some[2:])
    whole = batches(photos, augment=NO_AUGMENT, epochs=2)
    assert same(some[:2], whole[:2])
    assert photos.steps_per_epoch(8, 10**6) == photos.steps_per_epoch(8)


@pytest.mark.parametrize("name", [*QUICK, *SLOW.values()])
def test_an_epoch_is_the_same_wherever_one_starts_and_another_is_not(photos, name):
    whole = batches(photos, augment=KINDS[name], epochs=3)
    steps = photos.steps_per_epoch(8)
    assert same(whole[2 * steps :], batches(photos, augment=KINDS[name], start_epoch=2, epochs=3))
    assert not same(whole[:steps], whole[steps : 2 * steps])
    assert not same(whole[:steps], batches(photos, augment=KINDS[name], epochs=1, seed=4))


@pytest.mark.parametrize("name", [name for name in QUICK if name not in ("mixup", "cutmix")] + ["rand_augment"])
def test_no_two_batches_or_images_are_treated_alike(photos, name, monkeypatch):
    """With the same picture everywhere, all difference comes from the augmentation."""
    picture = stretch(photos._images.load(0, None), 40)
    monkeypatch.setattr(photos, "_reader", lambda *_: lambda rows: tf.stack([picture] * 8))
    found = [x for x, _ in batches(photos, augment=KINDS[name], epochs=2)]
    different = {x.tobytes() for x in found}
    assert len(different) > 0.8 * len(found)
    images = {image.tobytes() for x in found for image in x}
    assert len(images) > (1 if name == "flip" else 0.5 * 8 * len(found))


def test_mixing_mixes_labels_differently_in_each_batch(photos):
    for augment in (KINDS["mixup"], KINDS["cutmix"], Augment(mixup=0.2, cutmix=1.0)):
        labels = np.concatenate([y for _, y in batches(photos, augment=augment, epochs=4)])
        np.testing.assert_allclose(labels.sum(1), 1, atol=1e-5)
        shares = labels.max(1)
        assert len(set(shares[shares < 0.999].round(5))) > 20
        assert (shares < 0.999).mean() > 0.1


@pytest.mark.parametrize("name", ["default", "everything"])
def test_no_stateful_random_operation_is_left(name):
    """Whatever of keras_cv draws by itself would show up in the graph: it is the guard of `randomness.DIRECT`."""
    layers = Layers(KINDS[name])

    @tf.function
    def graph(seed, images, labels):
        box = boxes(seed, tf.ones(4), flip=True, least_area=0.5)
        return layers(seed, crops(images, box, 16), labels)

    images, labels = tf.zeros((4, 20, 20, 3), tf.uint8), tf.one_hot([0, 1, 2, 0], 3)
    concrete = graph.get_concrete_function(tf.constant([1, 2]), images, labels)
    definition = concrete.graph.as_graph_def()
    operations = {node.op for node in definition.node}
    operations |= {node.op for function in definition.library.function for node in function.node_def}
    stateful = {
        "RandomUniform",
        "RandomUniformInt",
        "RandomStandardNormal",
        "RandomGamma",
        "RandomShuffle",
        "Multinomial",
    }
    stateful |= {"RngSkip", "RngReadAndSkip", "StatefulUniform", "StatefulUniformInt", "StatefulStandardNormalV2"}
    assert not operations & stateful
    assert any(op.startswith("StatelessRandom") for op in operations)


def test_the_modules_of_keras_cv_are_left_as_they_were():
    layer = keras_cv.layers.RandomFlip()
    before = layer._random_generator
    with stateless(tf.constant([1, 2]), layer) as draws:
        assert layer._random_generator is draws
    assert layer._random_generator is before
    assert keras_cv.src.layers.preprocessing.mix_up.tf.random.gamma is tf.random.gamma


@pytest.mark.parametrize("name", ["jitter", "cutmix", SLOW["everything"]])
def test_parallelism_does_not_enter(photos, name):
    data = photos.training(px=32, batch=8, normalization=PLAIN, augment=KINDS[name], seed=3, epochs=2)
    options = tf.data.Options()
    options.threading.private_threadpool_size = 1
    options.threading.max_intra_op_parallelism = 1
    assert same(list(data.with_options(options).as_numpy_iterator()), batches(photos, augment=KINDS[name]))


def test_an_epoch_shows_each_image_once(photos):
    batch = photos.sizes["train"]
    (x, y), (u, _) = batches(photos, augment=NO_AUGMENT, epochs=2, batch=batch)
    assert len({image.tobytes() for image in x}) == batch
    assert {image.tobytes() for image in x} == {image.tobytes() for image in u}
    assert not np.array_equal(x, u)
    np.testing.assert_array_equal(y.sum(0), np.bincount(photos._labels("train")))


def test_a_batch_larger_than_the_set_goes_round(photos):
    ((x, _),) = batches(photos, augment=NO_AUGMENT, epochs=1, batch=100)
    assert x.shape[0] == 100
    assert len({image.tobytes() for image in x}) == photos.sizes["train"]


def test_crop_and_flip_are_those_of_keras_cv():
    """The one gather gives what RandomFlip and then RandomCropAndResize give with the same numbers."""
    images = tf.constant(np.random.default_rng(0).integers(0, 256, (6, 40, 40, 3)), tf.uint8)
    box = boxes(tf.constant([5, 6]), tf.ones(6), flip=True, least_area=0.3)
    ours = crops(images, box, 24)
    crop = keras_cv.layers.RandomCropAndResize((24, 24), (0.3, 1.0), (3 / 4, 4 / 3))
    flip = keras_cv.layers.RandomFlip(rate=1.0)
    mirrored = 0
    for image, (y1, x1, y2, x2), mine in zip(images, box.numpy(), ours, strict=True):
        if x1 > x2:
            mirrored += 1
            image, x1, x2 = flip(tf.cast(image, tf.float32)), 1 - x1, 1 - x2
        theirs = crop.augment_image(tf.cast(image, tf.float32), [[y1, x1, y2, x2]])
        np.testing.assert_allclose(mine, theirs, atol=0.01)
    assert 0 < mirrored < 6


def test_crops_have_the_area_and_aspect_they_should():
    count = 4000
    for proportion in (1.0, 0.5, 2.0):
        box = boxes(tf.constant([1, 2]), tf.fill((count,), proportion), flip=False, least_area=0.35).numpy()
        assert box.min() >= 0
        assert box.max() <= 1 + 1e-6
        height, width = (box[:, 2] - box[:, 0]) * proportion, box[:, 3] - box[:, 1]
        aspect, area = width / height, width * height / proportion
        assert aspect.min() >= 0.75 - 1e-4
        assert aspect.max() <= 4 / 3 + 1e-4
        assert area.max() <= 1 + 1e-5
        if proportion == 1.0:
            assert 0.6 < area.mean() < 0.72
            assert area.min() >= 0.35 - 1e-4 or area.min() > 0.3


def test_without_a_crop_it_is_the_centre_square():
    for proportion, expected in ((0.5, [0, 0.25, 1, 0.75]), (2.0, [0.25, 0, 0.75, 1])):
        box = boxes(tf.constant([1, 2]), tf.constant([proportion]), flip=False, least_area=None)
        np.testing.assert_allclose(box[0], expected, atol=1e-6)


def test_training_without_augmentation_is_close_to_evaluation(photos):
    x, y = next(iter(batches(photos, augment=NO_AUGMENT, epochs=1, batch=photos.sizes["train"], px=36)))
    seen, labels = photos.arrays("train", px=36)
    seen = normalize(seen.astype(np.float32), PLAIN)
    for image, label in zip(x[:10], y[:10], strict=True):
        nearest = np.abs(seen - image).mean(axis=(1, 2, 3)).argmin()
        assert labels[nearest] == label.argmax()
        assert np.abs(seen[nearest] - image).mean() < 0.05


def test_evaluation_is_the_transform_of_the_app(photos):
    pixels, labels = photos.arrays("test", px=28)
    assert pixels.dtype == np.uint8
    assert labels.dtype == np.int64
    for image, i in zip(pixels, photos._members["test"], strict=True):
        np.testing.assert_array_equal(image, fit_square(decode(Path(photos._images.describe(i))), 28))
    raw = list(photos.batches("test", px=28, batch=4, normalization=None).as_numpy_iterator())
    np.testing.assert_array_equal(np.concatenate([x for x, _ in raw]), pixels)
    np.testing.assert_array_equal(np.concatenate([y for _, y in raw]), labels)
    bgr = Normalization(mean=(10, 20, 30), std=(2,), channel_order="bgr")
    x = np.concatenate([x for x, _ in photos.batches("test", px=28, batch=4, normalization=bgr).as_numpy_iterator()])
    np.testing.assert_array_equal(x, normalize(pixels.astype(np.float32), bgr))


def test_a_limited_sample_is_balanced_and_the_beginning_of_the_whole(photos):
    pixels, labels = photos.arrays("train", px=16, limit=9)
    assert np.bincount(labels).tolist() == [3, 3, 3]
    np.testing.assert_array_equal(pixels, photos.arrays("train", px=16)[0][:9])
    limited = photos.batches("train", px=16, batch=4, normalization=None, limit=9)
    np.testing.assert_array_equal(np.concatenate([x for x, _ in limited.as_numpy_iterator()]), pixels)


def test_digits_are_not_flipped_unless_asked(tmp_path):
    digits = open_images("digits", cache=tmp_path)
    assert not digits.flippable
    assert (len(digits.classes), digits.native_px, sum(digits.sizes.values())) == (10, 8, 1797)
    keep = Augment(crop=False)
    (x, _), *_ = batches(digits, augment=keep, epochs=1, px=8)
    known = {normalize(image.astype(np.float32), PLAIN).tobytes() for image in digits.arrays("train", px=8)[0]}
    assert all(image.tobytes() in known for image in x)
    (u, _), *_ = batches(digits, augment=Augment(crop=False, flip=True), epochs=1, px=8)
    assert not np.array_equal(x, u)


def test_augment_refuses_what_makes_no_sense():
    for option in ({"crop_area": 0.0}, {"jitter": 2.0}, {"mixup": -1.0}, {"erase": 1.5}, {"rand_augment": -1}):
        (name,) = option
        with pytest.raises(UserError, match=name):
            Augment(**option)


def test_images_that_are_held_out_are_trained_on_no_more(photos):
    """Balanced over classes, judged in the place of the validation split; the set itself stays as it was."""
    sizes = dict(photos.sizes)
    part = photos.held_out(6)
    assert photos.sizes == sizes
    assert part.sizes == {"train": sizes["train"] - 6, "validation": 6, "test": 0}
    whole, labels = photos.arrays("train", px=32)
    held, held_labels = part.arrays("validation", px=32)
    rest, _ = part.arrays("train", px=32)
    assert np.bincount(held_labels).tolist() == [2, 2, 2]
    seen = [image.tobytes() for image in (*held, *rest)]
    assert sorted(seen) == sorted(image.tobytes() for image in whole)
    assert not {image.tobytes() for image in held} & {image.tobytes() for image in rest}
    assert part.steps_per_epoch(8) == (sizes["train"] - 6) // 8
    plain = batches(part, augment=NO_AUGMENT, epochs=1, batch=part.sizes["train"])
    counted = sum(np.asarray(labels).sum(0) for _, labels in plain)
    assert counted.astype(int).tolist() == (np.bincount(labels) - 2).tolist()
    with pytest.raises(UserError, match="cannot be held out: there are"):
        photos.held_out(10**6)
