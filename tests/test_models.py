"""Each variant against the reference table, and against a second implementation, `tf_keras.applications`."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from variants import cheapest_first

from tfcompact import models
from tfcompact.errors import UnknownName, UserError
from tfcompact.frameworks import keras
from tfcompact.networks import rewrite
from tfcompact.weights import saved

GOLDEN = json.loads((Path(__file__).parent / "golden/architectures.json").read_text())
NORMALIZATION_VARIABLES = GOLDEN["exceptions"]["normalization_variables"]
GATES = GOLDEN["exceptions"]["gates_counted_as_weights"]
SHARED = Path(__file__).parent.parent / os.environ.get("TFCOMPACT_TEST_DATA", "../shared/data")
REFERENCE = SHARED.parent / "reference/architectures.json"


def _label(row: dict) -> str:
    parts = (row["model"], f"{row['input']}px", f"{row['classes']}-classes", "aux" if row["aux"] else "")
    return "-".join(filter(None, parts))


@pytest.mark.parametrize("row", GOLDEN["entries"], ids=_label)
def test_counts_are_the_reference_to_the_unit(row: dict) -> None:
    keras.backend.clear_session()
    model = models.build(row["model"], px=row["input"], classes=row["classes"], aux=row["aux"])
    beside = NORMALIZATION_VARIABLES["count"] * (row["family"] in NORMALIZATION_VARIABLES["families"])
    gates = GATES["count"] * (row["model"] in GATES["models"])
    assert rewrite.cost(model)[:2] == (row["trainable"] - gates, row["non_trainable"] - beside)
    assert rewrite.cost(rewrite.inference(model)).macs == row["macs"]
    assert model.input_shape == (None, row["input"], row["input"], 3)
    for output in model.outputs:
        assert output.shape == (None, row["classes"])
    spec = models.spec(row["model"])
    if not row["aux"] and (row["input"], row["classes"]) == (spec.image_px, spec.classes):
        assert (*spec.params, spec.macs) == rewrite.cost(model)
    names = [layer.name for layer in model.layers]
    assert len(set(names)) == len(names)
    assert model.name == spec.name
    assert not [w.name for w in model.weights if w.name.split("/")[0] not in names]


@pytest.mark.parametrize("name", models.specs())
def test_every_variant_has_a_row_of_its_own_size_and_classes(name: str) -> None:
    spec = models.spec(name)
    rows = [r for r in GOLDEN["entries"] if r["model"] == name]
    assert (spec.image_px, spec.classes, False) in {(r["input"], r["classes"], r["aux"]) for r in rows}
    assert any(r["aux"] for r in rows) == bool(spec.aux_weight)


def test_every_row_has_its_variant() -> None:
    assert {row["model"] for row in GOLDEN["entries"]} == set(models.specs())


def test_golden_rows_agree_with_the_table_they_came_from() -> None:
    if not REFERENCE.is_file():
        pytest.skip(f"no reference table: {REFERENCE} is missing")
    table = {(e["family"], e["variant"]): e for e in json.loads(REFERENCE.read_text())["entries"]}
    for row in GOLDEN["entries"]:
        if row["canonical"].startswith("counted here"):
            continue
        origin = table[row["family"], row["variant"]]
        ours = {k: v for k, v in row.items() if k not in ("model", "aux", "classes")}
        assert {k: origin[k] for k in ours} == ours


@pytest.mark.parametrize("name", ["mobilenet_v2_0.35", "mobilenet_v3_small"])
def test_names_are_the_same_every_time(name: str) -> None:
    first, second = models.build(name, px=64), models.build(name, px=64)
    assert [layer.name for layer in first.layers] == [layer.name for layer in second.layers]


@pytest.mark.parametrize("name", cheapest_first(lambda spec: True))
def test_smallest_size_works_and_one_less_is_told_the_nearest(name: str) -> None:
    keras.backend.clear_session()
    spec = models.spec(name)
    model = models.build(name, px=spec.min_px, classes=3, aux=True)
    assert saved.foreign_class(json.loads(model.to_json())) is None  # else it could be saved and not loaded
    outputs = model(np.zeros((2, spec.min_px, spec.min_px, 3), np.float32))
    for logits in outputs if isinstance(outputs, list) else [outputs]:
        assert logits.shape == (2, 3)
        assert np.isfinite(logits).all()
    if spec.min_px > 1:
        with pytest.raises(
            UserError, match=rf"at least {spec.min_px} px, not {spec.min_px - 1}.*--px {spec.min_px}$"
        ):
            models.build(name, px=spec.min_px - 1)


def test_auxiliary_head_ends_at_one_position() -> None:
    model = models.build("inception_v3", aux=True)
    assert [o.shape[1:] for o in model.outputs] == [(1000,), (1000,)]
    # TF-slim's 5x5 average with stride 3 and its 5x5 convolution end at one position.
    assert model.get_layer("aux_average").output_shape == (None, 5, 5, 768)
    assert model.get_layer("aux_1").output_shape == (None, 1, 1, 768)
    assert rewrite.inference(model).output_shape == (None, 1000)


@pytest.mark.parametrize("px", [0, -32])
def test_zero_is_not_the_default_size(px: int) -> None:
    with pytest.raises(UserError, match="at least 32 px"):
        models.build("mobilenet_v2_0.35", px=px)


def test_unknown_model_suggests_the_nearest() -> None:
    with pytest.raises(UnknownName, match="no model named 'mobilenetv2'; did you mean mobilenet_v2"):
        models.build("mobilenetv2")
    with pytest.raises(UnknownName, match="did you mean .*mobilenet_v2_0.5"):
        models.build("mobilenet_v2_0.53")
    with pytest.raises(
        UnknownName, match=rf"no model named 'squid'; tfcompact models lists all {len(models.specs())}$"
    ):
        models.build("squid")
