"""A network need not be a name: a member of a search space goes through everything that a row of the zoo does."""

import json
from pathlib import Path

import numpy as np
import pytest

from tfcompact import models
from tfcompact.cli.main import main
from tfcompact.errors import UnknownName, UserError
from tfcompact.export import gate
from tfcompact.measure import host
from tfcompact.models import space_network
from tfcompact.models.architecture import Architecture, Row
from tfcompact.pipeline.pipeline import Pipeline
from tfcompact.pipeline.recipe import configured
from tfcompact.pipeline.subject import network_named
from tfcompact.pipeline.target import Target
from tfcompact.report import report_files
from tfcompact.runs import lineage

TINY = Architecture(
    px=32,
    width=1.0,
    classes=10,
    stem=8,
    head=24,
    rows=(Row(8, 2, 1, 3, 3, False, "relu6"), Row(16, 2, 2, 3, 5, True, "h_swish")),
)


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "Tiny net.json"
    path.write_text(json.dumps(TINY.to_json()))
    return path


def test_its_name_is_of_its_file_and_its_content(file) -> None:
    network = space_network.from_file(file)
    assert network.name.startswith("tiny_net-")
    assert network.name == space_network.from_architecture(TINY, "tiny_net").name
    other = Architecture(**(vars(TINY) | {"head": 32}))
    assert space_network.from_architecture(other).name != space_network.from_architecture(TINY).name


def test_it_comes_back_from_what_a_run_records(file) -> None:
    network = space_network.from_file(file)
    record = json.loads(json.dumps(network.record.to_json()))
    assert space_network.from_record(type(network.record).from_json(record)) == network


def test_it_is_built_at_other_sizes_and_for_other_classes(file) -> None:
    network = space_network.from_file(file)
    model = models.built(network, px=64, classes=3)
    assert model.input_shape == (None, 64, 64, 3)
    assert model.output_shape == (None, 3)
    assert network.min_px == 8
    with pytest.raises(UserError, match="needs images of at least 8 px, not 4"):
        models.built(network, px=4)


@pytest.mark.parametrize(("text", "message"), [
    ("{", "is not JSON"),
    ("[]", "holds no architecture, but list"),
    ('{"px": 32}', "holds no architecture: Architecture: key 'classes' is missing"),
    ('{"px": 32, "nose": 1}', "unknown key 'nose'"),
])  # fmt: skip
def test_another_file_is_one_line(tmp_path, text, message) -> None:
    path = tmp_path / "net.json"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        network_named(str(path), tmp_path)
    with pytest.raises(UserError, match="cannot be read"):
        network_named(str(tmp_path / "none.json"), tmp_path)


def test_it_is_trained_quantized_exported_measured_and_listed(file, tmp_path, capsys) -> None:
    root = tmp_path / "runs"
    first = Pipeline(Target(str(file), data="digits", px=32, runs=root))
    fit = first.run(configured("fit", {"epochs": 0}))
    name = first.spec.name
    assert fit.path.parent == root / name
    assert lineage.network_record(fit).architecture == TINY.to_json()
    # From here on its name is enough.
    again = Pipeline(Target(name, runs=root))
    quantized = again.run(configured("quantize", {"epochs": 0, "calibration_images": 32, "sqnr_images": 0}))
    assert quantized.parent == fit
    exported = again.export(gate.Config(("uint8", "float32"), images=20, largest_loss=100.0, least_agreement=0.0))
    assert [a.model for a in exported.artifacts] == [name, name]
    again.measure(host.Config(min_seconds=0, images=10))
    assert {row.model for row in report_files.rows(root)} == {name}
    assert main(["runs", "--runs", str(root), "--model", name]) == 0
    assert name in capsys.readouterr().out
    assert main(["describe", name, "--runs", str(root)]) == 0
    assert "block1_1" in capsys.readouterr().out
    weights = first.load(fit).get_weights()
    assert all(np.isfinite(w).all() for w in weights)


def test_a_name_that_nothing_has_suggests_the_nearest(tmp_path) -> None:
    with pytest.raises(UnknownName, match="did you mean mobilenet_v2"):
        network_named("mobilenetv2", tmp_path)
