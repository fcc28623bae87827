"""From images to verified files, on the built-in digits, with every stage as short as it can be."""

import csv
import dataclasses
import hashlib

import numpy as np
import pytest
from PIL import Image

from tfcompact import models
from tfcompact.data.images import normalize
from tfcompact.errors import UnknownName, UserError
from tfcompact.export import converter, gate
from tfcompact.measure import host
from tfcompact.networks import rewrite
from tfcompact.pipeline.pipeline import Pipeline
from tfcompact.pipeline.recipe import configured
from tfcompact.pipeline.subject import suitable_px
from tfcompact.pipeline.target import Target
from tfcompact.records import formats
from tfcompact.records.artifact import Normalization
from tfcompact.runs import lineage, measurements
from tfcompact.runs.lineage import made_by
from tfcompact.tflite import flatbuffer, metadata, runtime

MODEL = "mobilenet_v1_0.25"  # few layers: this is about the pipeline
LENIENT = gate.Config(largest_loss=100.0, least_agreement=0.0, images=50, samples=3)


@pytest.fixture(scope="module")
def line(tmp_path_factory) -> Pipeline:
    return Pipeline(Target(MODEL, data="digits", px=32, runs=tmp_path_factory.mktemp("runs")))


@pytest.fixture(scope="module")
def fit(line):
    return line.run(configured("fit", {"epochs": 2, "batch": 128}))


@pytest.fixture(scope="module")
def quantized(line, fit):
    return line.run(configured("quantize", {"epochs": 1, "batch": 128, "calibration_images": 64}), fit.name)


@pytest.fixture(scope="module")
def exported(line, quantized):
    return line.export(LENIENT, quantized.name)


def test_a_run_records_what_made_it(line, fit):
    inputs = fit.provenance["inputs"]
    assert inputs["parent"] is None
    assert inputs["config"]["epochs"] == 2
    assert inputs["config"]["optimizer"] == "adamw"  # defaults are spelled out
    assert fit.provenance["data"]["classes"] == [str(i) for i in range(10)]
    assert fit.provenance["cpu_seconds"] > 0
    with (fit.path / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert list((fit.path / "tensorboard").iterdir())
    assert not (fit.path / "scratch").exists()


def test_asked_again_it_is_not_run_again(line, fit):
    before = (fit.path / "provenance.json").stat().st_mtime_ns
    again = line.run(configured("fit", {"epochs": 2, "batch": 128}))
    assert again.path == fit.path
    assert (fit.path / "provenance.json").stat().st_mtime_ns == before


def test_another_option_or_seed_is_another_run(line, fit):
    other = Pipeline(Target(MODEL, data="digits", px=32, runs=line.target.runs, seed=1))
    assert other.run(configured("fit", {"epochs": 0})).path != fit.path


def test_quantize_follows_the_newest_fit_and_keeps_its_images(quantized, fit):
    assert quantized.parent is not None
    assert quantized.parent.name == fit.name
    assert quantized.provenance["inputs"]["px"] == 32
    assert min(quantized.notes["sqnr_db"].values()) > 0
    assert quantized.provenance["inputs"]["normalization"]["mean"] == [128.0]  # on the grid of uint8 pixels


def test_every_format_is_written_and_is_what_it_says(exported):
    assert [a.format for a in exported.artifacts] == list(formats.USUAL)
    for artifact in exported.artifacts:
        content = (exported.path / artifact.path).read_bytes()
        assert hashlib.sha256(content).hexdigest() == artifact.sha256
        said = metadata.read(content)
        assert said.labels == tuple(str(i) for i in range(10))
        assert said.normalization == artifact.normalization
        assert artifact.checks["images"] == 50
        assert artifact.checks["parameters"] == 475_544 - 990 * (256 + 1)  # the reference, of 1000 classes
        if artifact.format in formats.INTEGER:
            assert flatbuffer.stray_floats(content) == []
            assert artifact.checks["xnnpack_partitions"] == 1
    uint8 = exported.artifacts[0]
    assert (uint8.input.scale, uint8.input.zero_point) == (pytest.approx(1 / 127.5), 128)


def test_uint8_and_int8_are_the_same_network(exported, line, fit):
    images, _ = line.images(fit).arrays("test", px=32, limit=40)
    uint8, int8 = (runtime.LiteModel(exported.path / f"model.{kind}.tflite")(images) for kind in formats.INTEGER)
    np.testing.assert_array_equal(uint8, int8)


def test_labels_card_and_samples_lie_beside_the_files(exported):
    assert (exported.path / "labels.txt").read_text().splitlines() == [str(i) for i in range(10)]
    card = (exported.path / "model_card.md").read_text()
    assert exported.artifacts[0].sha256[:12] in card
    assert "digits" in card
    samples = sorted((exported.path / "samples").iterdir())
    assert len(samples) == 3
    assert Image.open(samples[0]).size == (32, 32)


def test_measure_saves_a_row_for_each_file(line, exported):
    found = line.measure(host.Config(min_seconds=0, images=20), exported.name)
    assert found.failures == ()
    rows = found.rows
    assert {row.format for row in rows} == set(formats.USUAL)
    for row in rows:
        assert len(row.wall_ms) >= 50
        assert row.accuracy.images == 20
    assert sorted(measurements.measurements(line.target.runs, MODEL), key=str) == sorted(rows, key=str)


def test_a_fit_run_has_no_integer_files(line, fit):
    assert {a.format for a in line.export(LENIENT, fit.name).artifacts} == {"float32", "float16", "dynamic"}
    with pytest.raises(UserError, match=f"try: make quantize MODEL={MODEL}"):
        line.export(gate.Config(formats=("int8",)), fit.name)


def test_float_files_hold_the_network_that_was_quantized_not_its_first_ancestor(line, fit):
    """Where a training goes on from another, what is shipped is the second one's network."""
    options = {"epochs": 1, "batch": 128, "learning_rate": 1e-2, "ema": 0.0, "norm_batches": 0}
    second = line.run(configured("fit", options), fit.name)
    quantized = line.run(configured("quantize", {"epochs": 0, "calibration_images": 64}), second.name)
    assert lineage.float_source(quantized).name == second.name
    exported = line.export(dataclasses.replace(LENIENT, formats=("uint8", "float32")), quantized.name)
    images, _ = line.images(fit).arrays("test", px=32, limit=40)
    given = runtime.LiteModel(exported.path / "model.float32.tflite")(images)
    for run, expected in ((second, True), (fit, False)):
        logits = rewrite.inference(line.load(run.name))(normalize(images.astype(np.float32), Normalization())).numpy()
        probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        assert np.allclose(given, probabilities, atol=1e-4) == expected
    made = (
        made_by(exported, "float32", line.target.runs),
        made_by(exported, "uint8", line.target.runs),
    )
    assert made == ("fit, fit", "fit, fit, quantize")


def test_a_recipe_holds_a_stage_twice_each_with_its_own_options(tmp_path):
    recipe = tmp_path / "twice.toml"
    recipe.write_text(
        '[[stage]]\nname = "fit"\nconfig = {epochs = 0, batch = 64}\n'
        '[[stage]]\nname = "fit"\nconfig = {epochs = 0, batch = 32}\n'
        '[[stage]]\nname = "quantize"\nid = "ptq"\nconfig = {epochs = 0}\n'
    )
    target = Target(MODEL, data="digits", px=32, runs=tmp_path / "runs")
    exporting = {"largest_loss": 100.0, "least_agreement": 0.0, "images": 20, "formats": ["uint8"]}
    overrides = {
        "fit2": {"optimizer": "sgd"},
        "ptq": {"calibration_images": 64},
        "export": exporting,
        "measure": {"min_seconds": 0, "images": 20},
    }
    run = Pipeline(target).train(str(recipe), overrides)
    first, second, quantized, _ = (r.provenance["inputs"]["config"] for r in run.chain)
    assert (first["batch"], first["optimizer"]) == (64, "adamw")
    assert (second["batch"], second["optimizer"]) == (32, "sgd")
    assert quantized["calibration_images"] == 64


@pytest.mark.parametrize(("text", "message"), [
    ("[[stage]\n", "twice.toml is not a recipe: .*line 1"),
    ('[[stage]]\nconfig = {epochs = 1}\n', r"step 1 of .*twice.toml has no name; give it one: name = \"fit\""),
    ('[[stage]]\nname = "fit"\nepochs = 1\n', "no key of a step of .* named 'epochs'; known: config, id, name"),
    ('[[stage]]\nname = "fitt"\n', "no stage named 'fitt'; did you mean fit"),
    ('[[stage]]\nname = "fit"\nconfig = {epoch = 1}\n', "no option of fit named 'epoch'; did you mean epochs"),
    ('[[stage]]\nname = "fit"\nid = "a"\n[[stage]]\nname = "fit"\nid = "a"\n', "two steps of .* are called 'a'"),
    ('[[stage]]\nname = "fit"\nid = "export"\n', "no step can be called 'export'"),
    ('[[stages]]\nname = "fit"\n', "no key of .*twice.toml named 'stages'; did you mean stage"),
    ('stage = "fit"\n', "twice.toml is not a recipe: its stages are tables"),
    ("", "twice.toml has no stage"),
    ('[[stage]]\nname = "fit"\nconfig = 3\n', "config of step 1 of .* must be a table"),
])  # fmt: skip
def test_what_is_wrong_with_a_recipe_is_one_line(tmp_path, text, message):
    recipe = tmp_path / "twice.toml"
    recipe.write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        Pipeline(Target(MODEL, data="digits", px=32, runs=tmp_path / "runs")).train(str(recipe))
    assert "\n" not in str(caught.value)


def test_options_of_steps_go_by_their_ids(tmp_path):
    line = Pipeline(Target(MODEL, data="digits", px=32, runs=tmp_path / "runs"))
    with pytest.raises(UnknownName, match="no step of recipe default named 'fit2'; did you mean fit"):
        line.train("default", {"fit2": {"epochs": 1}})


def test_int16x8_is_written_where_asked_for(line, fit, quantized):
    config = dataclasses.replace(LENIENT, formats=("int16x8",))
    for parent in (fit, quantized):  # of the float network in either case
        run = line.export(config, parent.name)
        assert [a.format for a in run.artifacts] == ["int16x8"]
        assert run.artifacts[0].run == run.name


def test_the_gate_stops_a_file_and_leaves_nothing(line, quantized, monkeypatch):
    monkeypatch.setattr(converter, "convert", _swapped_classes(converter.convert))
    strict = gate.Config(formats=("int8",), images=40)
    with pytest.raises(UserError, match="agrees with its Keras model on .* the file was not written"):
        line.export(strict, quantized.name)
    assert not list((line.target.runs / MODEL).glob("export-*.partial"))


def test_another_format_that_fails_is_left_out_and_said(line, quantized, monkeypatch):
    convert = converter.convert
    broken = _swapped_classes(convert)
    monkeypatch.setattr(converter, "convert", lambda m, f, i: (broken if f == "float16" else convert)(m, f, i))
    config = gate.Config(("uint8", "float16"), images=41, largest_loss=20.0, least_agreement=50.0)
    run = line.export(config, quantized.name)
    assert [a.format for a in run.artifacts] == ["uint8"]
    assert not (run.path / "model.float16.tflite").exists()
    assert "agrees with its Keras model" in run.notes["refused"]["float16"]


def test_a_tie_of_8_bits_agrees_and_a_step_does_not():
    step = 1 / 256
    given = np.array([[100, 100, 0], [100, 99, 0]], np.float32) * step
    expected = np.array([[0.39, 0.4, 0.0], [0.39, 0.4, 0.0]])
    assert gate.compare(given, expected, np.array([1, 1]), step)["agreement"] == 0.5


def test_a_folder_called_like_a_set_does_not_take_its_place(line, fit, tmp_path, monkeypatch):
    (tmp_path / "digits").mkdir()
    monkeypatch.chdir(tmp_path)
    other = Pipeline(Target(MODEL, px=32, runs=tmp_path / "runs"))
    assert other.run(configured("fit", {"epochs": 0})).provenance["data"]["source"] == "digits"


def test_the_gate_names_a_tensor_that_stayed_float(line, quantized, monkeypatch):
    convert = converter.convert
    monkeypatch.setattr(converter, "convert", lambda model, format, images: convert(model, "float32", images))
    with pytest.raises(UserError, match="tensors stayed float, the first is"):
        line.export(gate.Config(formats=("int8",), images=39), quantized.name)


def test_images_of_other_classes_are_refused(line, fit, flowers):
    other = Pipeline(Target(MODEL, data=str(flowers), runs=line.target.runs))
    with pytest.raises(UserError, match="was trained on 10 classes"):
        other.run(configured("quantize", {}), parent=fit.name)


def test_another_size_than_the_parent_is_refused(line, fit):
    other = Pipeline(Target(MODEL, px=64, runs=line.target.runs))
    with pytest.raises(UserError, match="has images of 32 px, not 64"):
        other.run(configured("quantize", {}), parent=fit.name)


def test_names_that_are_not_there_are_told(line):
    with pytest.raises(UnknownName, match="did you mean epochs"):
        configured("fit", {"epoch": 3})
    with pytest.raises(UnknownName, match="did you mean flip"):
        configured("fit", {"augment": {"flop": True}})
    assert configured("fit", {"augment": {"flip": False}, "learning_rate": 1}).augment.flip is False
    with pytest.raises(UnknownName, match="known: default"):
        line.train("nosuch")
    with pytest.raises(UserError, match="no finished run"):
        line.run(configured("quantize", {}), parent="fit-00000000")


@pytest.mark.parametrize(("model", "native", "px"), [
    ("mobilenet_v2", 8, 64), ("mobilenet_v2", 33, 64), ("mobilenet_v2", 96, 96), ("mobilenet_v2", 500, 224),
    ("inception_v3", 8, 75), ("inception_v3", 256, 256), ("inception_v3", 2000, 299),
])  # fmt: skip
def test_image_size_follows_data_and_network(model, native, px):
    assert suitable_px(models.spec(model), native) == px


def _swapped_classes(convert):
    """A converter whose files name other classes: the last layer's kernel is turned around."""

    def broken(model, format, images):
        from tfcompact.networks.rewrite import clone

        copy = clone(model)
        layer = copy.get_layer("logits")
        kernel, bias = layer.get_weights()
        layer.set_weights([-kernel, -bias])
        return convert(copy, format, images)

    return broken
