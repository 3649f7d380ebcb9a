import base64
import tracemalloc

import cv2
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssd.serving import requests as module
from ssd.serving.requests import IMAGES_AT_MOST, images, to_array
from ssd.utils.errors import UserError

IMAGE = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
PNG = cv2.imencode(".png", IMAGE[:, :, ::-1])[1].tobytes()
TEXT = base64.b64encode(PNG).decode()


@pytest.mark.parametrize(
    "item",
    [
        PNG,
        bytearray(PNG),
        memoryview(PNG),
        TEXT,
        base64.encodebytes(PNG).decode(),  # lines, as the shell's base64 breaks them
        f"data:image/png;base64,{TEXT}",
        IMAGE,
        IMAGE.astype(np.int64),
        IMAGE[:, ::-1][:, ::-1],
        IMAGE.tolist(),
        np.array(TEXT),
    ],
    ids=lambda item: type(item).__name__,
)
def test_every_form_of_one_image(item):
    array = to_array(item, "it")
    np.testing.assert_array_equal(array, IMAGE)
    assert array.dtype == np.uint8
    assert array.flags.c_contiguous


@pytest.mark.parametrize("given", [
    [PNG, PNG],
    (TEXT, TEXT),
    [IMAGE, TEXT],
    np.stack([IMAGE, IMAGE]),
    np.stack([IMAGE, IMAGE]).tolist(),
    np.array([TEXT, TEXT]),
    pd.DataFrame({"image": [PNG, TEXT], "other": [1, 2]}),
    pd.DataFrame([TEXT, PNG]),
    {"image": [PNG, TEXT]},
    [{"image": PNG}, {"image": IMAGE}],
])  # fmt: skip
def test_every_form_of_two_images(given):
    items = images(given)
    assert len(items) == 2
    for item in items:
        np.testing.assert_array_equal(to_array(item, "it"), IMAGE)


@pytest.mark.parametrize("given", [PNG, TEXT, IMAGE, IMAGE.tolist(), {"image": PNG}, {"image": IMAGE}])
def test_a_image_alone_is_a_list_of_one(given):
    (item,) = images(given)
    np.testing.assert_array_equal(to_array(item, "it"), IMAGE)


@pytest.mark.parametrize(("given", "message"), [
    ([], "no image in the request"),
    ({}, "no key 'image' among none"),
    ({"photo": TEXT}, "no key 'image' among 'photo'"),
    ([{"photo": TEXT}], "no key 'image'"),
    (pd.DataFrame({"a": [1], "b": [2]}), "no column 'image' among 'a', 'b'"),
    (3, "int is no form"),
    (None, "NoneType is no form"),
    ([TEXT] * (IMAGES_AT_MOST + 1), "65 images are too many"),
])  # fmt: skip
def test_requests_without_images(given, message):
    with pytest.raises(UserError, match=message) as caught:
        images(given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("item", "message"), [
    ("/etc/pass/wd", "the image file is no JPEG"),  # base64 by chance, and never a path
    ("http://host/a.jpg", "not base64"),
    ("ä", "not base64"),
    ("", "is empty"),
    (b"", "is empty"),
    (b"GIF89a", "is no JPEG"),
    (PNG[:-20], "image 7"),
    (np.zeros((4, 5), np.uint8), "4x5 is no image"),
    (np.zeros((4, 5, 4), np.uint8), "4x5x4 is no image"),
    (np.zeros((0, 5, 3), np.uint8), "is no image"),
    ([[[1, 2], [3]]], "1x2 is no image"),
    ([["a"]], "is no image"),
    (None, "NoneType is no image"),
    ({}, "dict is no image"),
    (np.zeros((4, 5, 3)), "whole numbers 0..255"),
    (np.full((4, 5, 3), 256), "whole numbers 0..255"),
    (np.full((4, 5, 3), -1), "whole numbers 0..255"),
    (np.full((1, 2, 3), "a"), "whole numbers 0..255"),
])  # fmt: skip
def test_what_is_no_image_is_told_in_one_line(item, message):
    with pytest.raises(UserError, match=message) as caught:
        to_array(item, "image 7")
    assert str(caught.value).startswith("image 7: ")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


def test_images_that_are_too_large_are_refused_before_they_are_decoded(monkeypatch):
    monkeypatch.setattr(module, "PIXELS_AT_MOST", 19)
    monkeypatch.setattr(module, "decode", None)
    for item in (PNG, TEXT, IMAGE):
        with pytest.raises(UserError, match="image 7: 5x4 pixels are too many"):
            to_array(item, "image 7")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.just("image"), inner),
)


def complaint(value) -> str:
    try:
        for item in images(value):
            assert to_array(item, "it").dtype == np.uint8
    except UserError as error:
        return str(error)
    return ""


@given(json_values)
def test_anything_is_a_image_or_one_line(value):
    assert "\n" not in complaint(value)


@pytest.mark.parametrize("form", [PNG, TEXT, IMAGE, IMAGE.tolist()])
def test_pixels_of_a_request_are_counted_without_decoding(form, monkeypatch):
    monkeypatch.setattr(module, "decode", None)
    assert len(images([form, PNG], budget=40)) == 2
    with pytest.raises(UserError, match="^2 images have .* million pixels together, too many for one request"):
        images([form, PNG], budget=39)


def test_a_long_text_among_values_takes_no_memory():
    rows = [[["x" * 1_000_000, "", ""]], *[[["", "", ""]]] * 1000]
    tracemalloc.start()
    with pytest.raises(UserError, match=r"^image 0: its values must be whole numbers 0\.\.255$"):
        to_array(rows, "image 0")
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("value", [True, 0.5, 10**400, -(10**400), None, [1]])
def test_values_that_are_no_levels(value):
    with pytest.raises(UserError, match="^image 0: "):
        to_array([[[1, 2, value]]], "image 0")
