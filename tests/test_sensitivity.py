"""Each layer's rounding alone, and files in which some layers are float: against networks built in other ways."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from tfcompact.cli import main
from tfcompact.compress.quantization import calibration, lowering, pixel_grid, quantizers, wrapping
from tfcompact.errors import UnknownName, UserError
from tfcompact.frameworks import keras, tf
from tfcompact.models.blocks import conv, depthwise, logits, squeeze_excite
from tfcompact.networks import rewrite
from tfcompact.records.artifact import Normalization
from tfcompact.sensitivity import float_layers, layer_ranking, sensitivity_tables, study
from tfcompact.tflite import divergence, flatbuffer, float_islands, runtime
from tfcompact.tflite.classifier import Classifier

L = keras.layers
PX = 16
PIXELS = np.random.default_rng(1).integers(0, 256, (64, PX, PX, 3)).astype(np.uint8)
IMAGES = ((PIXELS.astype(np.float32) - 128) / 127.5).astype(np.float32)


def network():
    """Most kinds of operators, a ReLU that nothing fuses, and two concatenations in a row."""
    keras.utils.set_random_seed(5)
    inputs = L.Input((PX, PX, 3), name="image")
    x = conv(inputs, 8, 3, 2, act="relu", name="stem")
    y = conv(x, 16, act="relu6", name="expand")
    y = depthwise(y, 3, act="relu", name="filter")
    y = squeeze_excite(y, 4, gate="h_sigmoid", name="se")
    x = L.Add(name="add")([x, conv(y, 8, act=None, name="project")])
    pooled = L.AveragePooling2D(3, 1, "same", name="average")(x)
    bare = L.Concatenate(name="inner")([conv(x, 4, act=None, name="bare"), conv(x, 2, act=None, name="thin")])
    x = L.Concatenate(name="concat")([conv(x, 4, act="relu", name="left"), bare, pooled])
    x = L.ReLU(name="alone")(x)
    x = L.MaxPooling2D(2, name="maximum")(x)
    x = conv(x, 12, act="h_swish", name="head")
    x = L.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, logits(x, 4, dropout=0.2))


@pytest.fixture(scope="module")
def lowered():
    model = network()
    rng = np.random.default_rng(2)
    for layer in model.layers:
        if isinstance(layer, L.BatchNormalization):
            layer.moving_variance.assign(rng.uniform(0.1, 0.5, layer.moving_variance.shape))
            layer.beta.assign(rng.normal(0, 0.5, layer.beta.shape))
    model.get_layer("logits").kernel.assign(rng.normal(0, 1, (12, 4)))
    return lowering.lower(model)


@pytest.fixture(scope="module")
def qat(lowered):
    model = wrapping.quantized(lowered)
    calibration.calibrate(model, lowered, [IMAGES], pixel_grid.on_grid(Normalization()), 100.0)
    return model


@pytest.fixture(scope="module")
def parts(qat):
    return {unit.name: unit for unit in layer_ranking.units(qat)}


@pytest.fixture(scope="module")
def ranking(qat):
    return layer_ranking.rank(qat, IMAGES)


@pytest.fixture(scope="module")
def integer(qat) -> bytes:
    return float_layers.integer_file(qat, "int8", IMAGES[:8])


def kept(content: bytes, parts, names, weights, *, readers: bool = False) -> bytes:
    return float_islands.with_float(
        content, [unit.layers for unit in parts.values()], names, weights, readers=readers
    )


def float_tensors(content: bytes) -> set[str]:
    """The layers whose names float activations bear, but those that a DEQUANTIZE makes."""
    return {
        part
        for tensor in flatbuffer.tensors(content)
        if tensor.dtype == "float32"
        and not tensor.is_constant
        and not tensor.name.endswith(float_islands.DEQUANTIZED)
        for part in tensor.name.split(";")[0].split("/")[1:2]
    }


def test_a_unit_is_an_operator_with_its_relu(parts):
    assert parts["expand"].layers == ("expand", "expand_relu6")
    assert parts["expand"].roundings == ("expand_relu6",)
    assert (parts["filter"].kind, parts["filter"].output) == ("dw3x3 relu", (8, 8, 16))
    assert parts["filter"].macs == 8 * 8 * 16 * 9
    assert parts["head_h_swish_gate"].kind == "relu6(x+3)"
    assert parts["left"].roundings == parts["bare"].roundings == parts["inner"].roundings == ()
    assert parts["concat"].joins == ("left", "inner")  # and not the pooling, which is rounded itself
    assert parts["concat"].roundings == ("concat", "alone")  # one alone picks from the values it gets
    assert not {"alone", "maximum", "image_quantized"} & set(parts)
    assert layer_ranking.kept_with(["concat"], parts.values()) == ("concat", "left", "inner", "bare", "thin")


def test_every_rounding_and_kernel_belongs_to_one_unit(qat, parts):
    wrappers = [
        layer for layer in qat.layers if isinstance(layer, quantizers.Wrapper) and layer.name != pixel_grid.INPUT
    ]
    rounded = sorted(name for unit in parts.values() for name in unit.roundings)
    assert rounded == sorted(layer.name for layer in wrappers if layer.quantize_config.output)
    kernels = {layer.name for layer in wrappers if layer.quantize_config.kernel_axis is not None}
    assert kernels == {unit.name for unit in parts.values() if unit.has_kernel}


def test_with_all_switches_on_it_is_the_network_and_with_none_its_parent(qat, lowered):
    before = [weight.copy() for weight in qat.get_weights()]
    net = layer_ranking.Switches(qat)
    np.testing.assert_allclose(net.logits(IMAGES), lowered(IMAGES), rtol=1e-5)
    np.testing.assert_allclose(net.plain()(IMAGES), lowered(IMAGES), rtol=1e-5)
    net.round(None, None)
    assert np.array_equal(net.logits(IMAGES), tf.function(qat)(IMAGES))
    net.round((), ())
    np.testing.assert_allclose(net.logits(IMAGES), lowered(IMAGES), rtol=1e-5)
    assert all(map(np.array_equal, before, qat.get_weights()))


@pytest.mark.parametrize("name", ["stem", "expand", "filter", "se_excite", "concat", "left", "logits"])
def test_one_layer_alone_is_the_parent_with_that_layer_as_it_is_deployed(name, ranking, qat, lowered, parts):
    """The parent, rebuilt with the one layer's rounded weights and a rounding behind it."""
    deployed, unit = wrapping.deployable(qat), parts[name]

    def rule(layer, x):
        if layer.name not in (*unit.layers, *unit.roundings):
            return None
        copy = layer.__class__.from_config(layer.get_config())
        out = copy(x)
        if layer.weights:
            copy.set_weights(deployed.get_layer(layer.name).get_weights())
        if layer.name in unit.roundings:
            grid = deployed.get_layer(f"{layer.name}_8bit")
            out = quantizers.FakeQuant(grid.low, grid.high)(out)
        return out

    expected = lowered(IMAGES).numpy()
    row = next(row for row in ranking.rows if row.unit.name == name)
    found = rewrite.rewrite(lowered, rule)(IMAGES).numpy()
    assert row.sqnr_db == pytest.approx(divergence.sqnr_db(expected, found), abs=0.2)
    assert row.agreement == np.mean(expected.argmax(1) == found.argmax(1))


def test_the_worst_come_first_and_every_layer_that_rounds_is_there(ranking, parts, qat, lowered):
    order = [(row.sqnr_db, row.agreement) for row in ranking.rows]
    assert order == sorted(order)
    names = [row.unit.name for row in ranking.rows]
    assert set(names) == set(parts) - {"inner"}
    assert len(names) == len(set(names))
    for row in ranking.rows:
        assert (row.kernel_db is None) == (not row.unit.has_kernel)
        assert (row.output_db is None) == (not row.unit.roundings)
        alone = [db for db in (row.kernel_db, row.output_db) if db is not None]
        assert row.sqnr_db <= min(alone) + 1.5, row.unit.name  # two noises are seldom less than one
    expected = divergence.sqnr_db(lowered(IMAGES).numpy(), qat(IMAGES).numpy())
    assert ranking.all_db == pytest.approx(expected, abs=0.05)
    assert ranking.images == 64


def test_a_layer_whose_range_is_spoilt_becomes_the_worst(lowered):
    model = wrapping.quantized(lowered)
    calibration.calibrate(model, lowered, [IMAGES], pixel_grid.on_grid(Normalization()), 100.0)
    ends = model.get_layer("project")._output_quantizer_vars
    ends["max_var"].assign(60 * ends["max_var"])
    assert layer_ranking.rank(model, IMAGES).rows[0].unit.name == "project"


KEPT = [["stem"], ["filter"], ["logits"], ["add"], ["se_excite"], ["head", "pool"], ["expand", "filter", "project"]]


@pytest.mark.parametrize("names", KEPT, ids="+".join)
def test_exactly_the_wanted_operators_are_float(names, integer, parts, qat):
    net = layer_ranking.Switches(qat)
    content = kept(integer, parts, names, net.weights)
    layers = [unit.layers for unit in parts.values()]
    assert float_islands.float_layers(integer, layers) == float_tensors(integer) == set()
    assert float_islands.float_layers(content, layers) == set(names)
    last = {unit.layers[-1] if len(unit.layers) < 3 else unit.name for unit in map(parts.get, names)}
    assert float_tensors(content) == last
    constants = [
        t for t in flatbuffer.tensors(content) if t.is_constant and t.dtype == "float32" and len(t.shape) > 1
    ]
    kernels = [net.weights[name][0].size for name in names if parts[name].has_kernel]
    assert sorted(int(np.prod(t.shape)) for t in constants) == sorted(kernels)


@pytest.mark.parametrize("name", ["stem", "filter", "se_expand", "se_excite", "add", "average", "pool", "logits"])
def test_a_kept_operator_computes_what_its_layer_does(name, integer, parts, qat):
    """In float, of the 8-bit inputs as they are; behind it the value is rounded on the grid that was there."""
    net = layer_ranking.Switches(qat)
    content = kept(integer, parts, [name], net.weights)
    rest = [each for each in flatbuffer.operators(content) if each not in float_islands.CONVERSIONS]
    assert rest == flatbuffer.operators(integer)
    values = runtime.tensor_values(content, PIXELS[:4])
    inputs = [value for key, value in values.items() if key.endswith(float_islands.DEQUANTIZED)]
    ((key, found),) = [(key, value) for key, value in values.items() if key.endswith("_float")]
    plain = net.plain()
    expected = inputs[0] if len(inputs) == 1 else inputs
    for layer in parts[name].layers:
        if layer != "average_border":  # an operator of its own in the file, no layer
            expected = plain.get_layer(layer)(expected)
    np.testing.assert_allclose(np.reshape(found, expected.shape), expected, rtol=1e-4, atol=1e-4)
    behind = values[key.removesuffix("_float")]
    grid = next(t for t in flatbuffer.tensors(content) if t.name == key.removesuffix("_float"))
    (step,), (zero,) = grid.scales, grid.zero_points
    clipped = np.clip(found, (-128 - zero) * step, (127 - zero) * step)
    assert np.abs(behind - clipped).max() <= step * 0.501


def test_only_with_its_readers_is_a_layer_freed_of_a_bad_range(lowered, parts):
    model = wrapping.quantized(lowered)
    calibration.calibrate(model, lowered, [IMAGES], pixel_grid.on_grid(Normalization()), 100.0)
    ends = model.get_layer("filter_relu")._output_quantizer_vars
    ends["max_var"].assign(20 * ends["max_var"])
    integer, weights = float_layers.integer_file(model, "int8", IMAGES[:8]), layer_ranking.Switches(model).weights
    files = [integer, *(kept(integer, parts, ["filter"], weights, readers=readers) for readers in (False, True))]
    expected = lowered(IMAGES).numpy()
    before, alone, both = (
        divergence.sqnr_db(expected, float_layers.logits_of(_with_metadata(file), PIXELS, ("logits",)))
        for file in files
    )
    assert abs(alone - before) < 2
    assert both > before + 5


def test_with_readers_an_output_is_not_rounded_again(integer, parts, qat):
    net = layer_ranking.Switches(qat)
    content = kept(integer, parts, ["project"], net.weights, readers=True)
    assert float_islands.float_layers(content, [unit.layers for unit in parts.values()]) >= {"project", "add"}
    names = [t.name.split(";")[0] for t in flatbuffer.tensors(content) if t.dtype == "int8"]
    assert not [name for name in names if "/project/" in name]


def test_with_everything_kept_it_is_the_float_network(integer, parts, qat, lowered):
    net = layer_ranking.Switches(qat)
    content = _with_metadata(kept(integer, parts, list(parts), net.weights, readers=True))
    assert not [t for t in flatbuffer.tensors(content) if t.is_constant and t.dtype == "int8"]
    assert "DEQUANTIZE" in flatbuffer.operators(content)  # of the image
    found = float_layers.logits_of(content, PIXELS, ("logits",))
    assert divergence.sqnr_db(lowered(IMAGES).numpy(), found) > 80


def test_a_concatenation_is_kept_with_what_it_rounds_for(integer, parts, qat):
    net = layer_ranking.Switches(qat)
    names = layer_ranking.kept_with(["concat"], parts.values())
    content = kept(integer, parts, names, net.weights)
    assert float_islands.float_layers(content, [u.layers for u in parts.values()]) >= {
        "concat",
        "left",
        "bare",
        "thin",
    }
    assert runtime.LiteModel(content)  # XNNPACK takes it


def test_weights_of_another_run_are_refused(integer, parts, qat):
    weights = layer_ranking.Switches(qat).weights
    wrong = weights | {"head": [weights["head"][0] * 1.1, weights["head"][1]]}
    with pytest.raises(UserError, match="weights of layer head are not the run's"):
        kept(integer, parts, ["head"], wrong)
    with pytest.raises(UserError, match="no operator for layer nosuch"):
        kept(integer, parts, ["nosuch"], weights)


def test_the_ranking_is_printed_with_what_each_layer_is(ranking):
    for width in (45, 110):
        console = Console(file=io.StringIO(), width=width, color_system=None)
        table, summary, legend = sensitivity_tables.ranking_table(ranking, 5, width)
        console.print(table, summary, legend, sep="\n", highlight=False)
        lines = console.file.getvalue().splitlines()
        assert max(map(len, lines)) <= width
        assert [line.split()[:2] for line in lines[2:7]] == [
            [str(i), row.unit.name] for i, row in enumerate(ranking.rows[:5], 1)
        ]
        assert f"all {len(ranking.rows)} together" in " ".join(lines)
        assert f"{len(ranking.rows) - 5} not shown" in " ".join(" ".join(lines).split())
    assert "Not shown: " in sensitivity_tables.ranking_table(ranking, 5, 45)[2]


def test_options_say_what_is_allowed(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="keep_float must be 0 or more, not -1"):
        study.Config(keep_float=-1)
    with pytest.raises(UnknownName, match="int8"):
        study.Config(format="float32")
    (tmp_path / "there.json").touch()
    with pytest.raises(UserError, match="is there already"):
        study.Config(json=tmp_path / "there.json")
    (tmp_path / "fit-1").mkdir()
    (tmp_path / "fit-1" / "provenance.json").write_text("{}")
    with pytest.raises(UserError, match="finished run, which never changes"):
        study.Config(keep_float=1, out=tmp_path / "fit-1" / "x.tflite")
    with pytest.raises(UserError, match="no directory"):
        study.Config(json=tmp_path / "nosuch" / "x.json")


def test_a_run_that_holds_no_quantized_network_is_refused(tmp_path, capsys):
    folder = tmp_path / "net" / "fit-1"
    folder.mkdir(parents=True)
    assert main.main(["sensitivity", str(folder)]) == 2
    assert "no finished run net/fit-1" in capsys.readouterr().err
    (folder / "provenance.json").write_text(json.dumps({"finished": "2025", "inputs": {"parent": None}}))
    assert main.main(["sensitivity", str(folder)]) == 2
    assert "net/fit-1 holds no quantized network; give a run that does" in capsys.readouterr().err


@pytest.mark.slow
def test_from_a_run_to_the_mixed_file(tmp_path, monkeypatch, capfd):
    """Of MobileNetV3, by the command line."""
    from tfcompact.pipeline.pipeline import Pipeline
    from tfcompact.pipeline.recipe import configured
    from tfcompact.pipeline.target import Target

    name = "mobilenet_v3_small"
    line = Pipeline(Target(name, data="digits", px=32, runs=tmp_path / "runs"))
    line.run(configured("fit", {"epochs": 1, "batch": 128}))
    run = line.run(configured("quantize", {"epochs": 0, "calibration_images": 64}))
    before = {path: path.stat().st_mtime_ns for path in run.path.rglob("*")}
    monkeypatch.chdir(tmp_path)
    words = ["sensitivity", str(run.path), "--keep-float", "2", "--json", "all.json", "--validation-images", "40"]
    assert main.main(words) == 0
    content = json.loads(Path("all.json").read_text())
    assert content["images"] == 64
    assert content["kept_float"] == sorted(
        (row["unit"]["layers"][0] for row in content["rows"][:2]), key=content["kept_float"].index
    )
    files = {row["file"].split()[0]: row for row in content["files"]}
    assert files["uint8"]["bytes"] < files["mixed"]["bytes"] < files["float32"]["bytes"]
    assert files["float32"]["agreement"] > 0.9
    classifier = Classifier(f"{name}.mixed.tflite")
    assert classifier.labels == tuple(str(i) for i in range(10))
    assert run.name == classifier.metadata.run
    assert before == {path: path.stat().st_mtime_ns for path in run.path.rglob("*")}
    assert main.main(words[:4]) == 2
    assert "is there already" in capfd.readouterr().err


def _with_metadata(content: bytes) -> bytes:
    from tfcompact.tflite import metadata

    return metadata.attach(
        content, name="net", description="", labels=tuple("abcd"), normalization=pixel_grid.on_grid(Normalization())
    )
