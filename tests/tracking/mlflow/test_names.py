from hypothesis import given
from hypothesis import strategies as st
from mlflow.utils.validation import (
    MAX_PARAM_VAL_LENGTH,
    MAX_TAG_VAL_LENGTH,
    _validate_metric_name,
    _validate_param_name,
)

from ssd.tracking.mlflow.names import PARAM_LENGTH, TAG_LENGTH, clean, parameters, short_overrides, shortened


def test_parameters():
    config = {"a": {"b": 1, "c": [1, None], "d": {}}, "e": "text", "f": True, "g+h": 0.5}
    assert parameters(config) == {"a.b": "1", "a.c": "[1, null]", "e": "text", "f": "true", "g_h": "0.5"}


def test_long_values_say_that_they_are_cut():
    assert (PARAM_LENGTH, TAG_LENGTH <= MAX_TAG_VAL_LENGTH) == (MAX_PARAM_VAL_LENGTH, True)
    assert parameters({"a": "x" * PARAM_LENGTH})["a"] == "x" * PARAM_LENGTH
    cut = parameters({"a": list(range(10_000))})["a"]
    assert len(cut) == PARAM_LENGTH
    assert cut.startswith("[0, 1, 2, ")
    assert cut.endswith(" … (cut, 58890 characters)")
    assert shortened("short", 5) == "short"


def test_overrides_are_named_by_their_last_part():
    overrides = ["backbone=small", "optimizer.learning_rate=0.1", "+dataset.a.b=/x/y.z", "data_shape='300'"]
    assert short_overrides(overrides) == "backbone=small learning_rate=0.1 b=/x/y.z data_shape='300'"


@given(st.text(min_size=1, max_size=300) | st.text("./ab", max_size=8))
def test_mlflow_accepts_cleaned_names(class_name):
    name = f"val/ap_11pt/{class_name}"
    _validate_metric_name(clean(name))
    _validate_param_name(clean(name))
