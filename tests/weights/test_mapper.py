"""Weights of one graph in another: what fits, what numbers can make up for, what is refused."""

from typing import Any

import numpy as np
import pytest

from ssd.mxnet_compat import mx
from ssd.utils.errors import UserError
from ssd.weights.mapper import LEVELS, Normalization, adapt_input, layers_of, places_of, put

SIDE = 16
RNG = np.random.default_rng(0)


def data() -> mx.sym.Symbol:
    return mx.sym.Variable("data")


def conv(body: mx.sym.Symbol, name: str, **options: Any) -> mx.sym.Symbol:
    given = {"num_filter": 4, "kernel": (3, 3), "pad": (1, 1), "no_bias": True, **options}
    return mx.sym.Convolution(body, name=name, **given)


def norm(body: mx.sym.Symbol, name: str, **options: Any) -> mx.sym.Symbol:
    return mx.sym.BatchNorm(body, name=name, **{"fix_gamma": False, **options})


def relu(body: mx.sym.Symbol) -> mx.sym.Symbol:
    return mx.sym.Activation(body, act_type="relu")


def pool(body: mx.sym.Symbol, kind: str) -> mx.sym.Symbol:
    return mx.sym.Pooling(body, pool_type=kind, kernel=(2, 2), stride=(2, 2))


def arrays(symbol: mx.sym.Symbol) -> dict[str, np.ndarray]:
    shapes, _, aux = symbol.infer_shape(data=(1, 3, SIDE, SIDE))
    named = [*zip(symbol.list_arguments(), shapes, strict=True), *zip(symbol.list_auxiliary_states(), aux, strict=True)]
    return {
        name: RNG.uniform(0.5, 1.5, shape).astype(np.float32) - (0 if name.endswith(("gamma", "var")) else 1)
        for name, shape in named
        if name != "data"
    }


def run(symbol: mx.sym.Symbol, params: dict[str, np.ndarray], image: np.ndarray) -> np.ndarray:
    given = {name: mx.nd.array(params[name]) for name in symbol.list_arguments() if name != "data"}
    aux = {name: mx.nd.array(params[name]) for name in symbol.list_auxiliary_states()}
    executor = symbol.bind(mx.cpu(), args={**given, "data": mx.nd.array(image)}, aux_states=aux, grad_req="null")
    return executor.forward(is_train=False)[0].asnumpy()


def moved(there: mx.sym.Symbol, here: mx.sym.Symbol, partial: bool = False) -> tuple[dict, dict]:
    """The parameters there, and here."""
    params = arrays(there)
    mapped = put(layers_of(there, params), places_of(here, SIDE), partial)
    return params, {**mapped.args, **mapped.aux}


def assert_same(there: mx.sym.Symbol, here: mx.sym.Symbol) -> None:
    params, ours = moved(there, here)
    image = RNG.normal(size=(2, 3, SIDE, SIDE))
    np.testing.assert_allclose(run(here, ours, image), run(there, params, image), rtol=1e-4, atol=1e-5)


def refusal(there: mx.sym.Symbol, here: mx.sym.Symbol) -> str:
    with pytest.raises(UserError) as caught:
        moved(there, here)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_names_do_not_matter() -> None:
    there = relu(norm(conv(data(), "a"), "b"))
    assert_same(there, relu(norm(conv(data(), "x"), "y")))


@pytest.mark.parametrize(("theirs", "ours"), [(1e-5, 1e-3), (1e-3, 2e-5)])
def test_epsilons(theirs: float, ours: float) -> None:
    assert_same(norm(conv(data(), "a"), "b", eps=theirs), norm(conv(data(), "a"), "b", eps=ours))
    assert_same(
        norm(conv(data(), "a"), "b", eps=theirs, fix_gamma=True), norm(conv(data(), "a"), "b", eps=ours, fix_gamma=True)
    )


def test_a_scale_that_stays_1_there_is_1_here() -> None:
    assert_same(norm(conv(data(), "a"), "b", fix_gamma=True), norm(conv(data(), "a"), "b"))


def test_a_scale_that_would_stay_1_here_is_refused() -> None:
    text = refusal(norm(conv(data(), "a"), "b"), norm(conv(data(), "a"), "y", fix_gamma=True))
    assert text.startswith("layer 2, b there and y here: its scales are [0.")
    assert "set backbone.network.fix_gamma=false" in text


def test_a_normalization_of_the_input_that_is_not_there_does_nothing() -> None:
    assert_same(conv(data(), "a"), conv(norm(data(), "bn_data", fix_gamma=True, eps=2e-5), "a"))


def test_a_bias_that_is_not_there_is_0_and_one_that_has_no_place_is_refused() -> None:
    assert_same(conv(data(), "a"), conv(data(), "a", no_bias=False))
    assert "it has a bias there, none here" in refusal(conv(data(), "a", no_bias=False), conv(data(), "a"))


@pytest.mark.parametrize(
    ("there", "here", "part"),
    [
        (conv(data(), "a"), conv(data(), "a", num_filter=8), "weight of shape (4, 3, 3, 3) there, (8, 3, 3, 3) here"),
        (conv(data(), "a"), conv(data(), "a", stride=(2, 2)), "stride (1, 1) there, (2, 2) here"),
        (conv(data(), "a"), conv(data(), "a", pad=(2, 2), dilate=(2, 2)), "pad (1, 1) there, (2, 2) here"),
        (norm(conv(data(), "a"), "b"), conv(conv(data(), "a"), "b"), "BatchNorm there, Convolution here"),
        (conv(data(), "a"), conv(relu(conv(data(), "a")), "b"), "has 1 layers with weights, this backbone 2"),
        (conv(pool(conv(data(), "a"), "avg"), "b"), conv(pool(conv(data(), "a"), "max"), "b"),
         "avg pooling 2x2 stride 2 pad 0 before it there, max pooling 2x2 stride 2 pad 0 here"),
        (conv(mx.sym.clip(conv(data(), "a"), 0, 6), "b"), conv(relu(conv(data(), "a")), "b"),
         "before it there, relu here"),
    ],
)  # fmt: skip
def test_differences_that_numbers_cannot_make_up_for(there: Any, here: Any, part: str) -> None:
    assert part in refusal(there, here)


def test_how_a_pooling_rounds_is_a_matter_of_the_size() -> None:
    full = mx.sym.Pooling(data(), kernel=(2, 2), stride=(2, 2), pooling_convention="full")
    assert_same(conv(pool(data(), "max"), "a"), conv(full, "a"))


def test_layers_may_go_on_there_or_be_wanting_where_that_is_known() -> None:
    short, long = conv(data(), "a"), conv(relu(conv(data(), "a")), "b")
    assert_same_part = moved(long, short)[1]
    assert assert_same_part.keys() == {"a_weight"}
    assert moved(short, long, partial=True)[1].keys() == {"a_weight"}


def test_dense_layers_are_thinned_out_as_published() -> None:
    """VGG's fc6 and fc7 at a sixteenth of their width, against the formula of its authors."""
    body = mx.sym.Pooling(conv(data(), "a", num_filter=8), kernel=(2, 2), stride=(2, 2))  # 8 x 8
    body = mx.sym.Pooling(body, kernel=(2, 2))  # 7 x 7
    body = relu(mx.sym.FullyConnected(body, num_hidden=64, name="fc6"))
    there = mx.sym.FullyConnected(body, num_hidden=64, name="fc7")
    here = mx.sym.Pooling(conv(data(), "a", num_filter=8), kernel=(3, 3), pad=(1, 1), stride=(1, 1))
    here = relu(conv(here, "c6", num_filter=16, pad=(6, 6), dilate=(6, 6), no_bias=False))
    here = conv(here, "c7", num_filter=16, kernel=(1, 1), pad=(0, 0), no_bias=False)
    params, ours = moved(there, here)
    full = params["fc6_weight"].reshape(64, 8, 7, 7)
    np.testing.assert_array_equal(ours["c6_weight"], full[::4, :, ::3, ::3])
    np.testing.assert_array_equal(ours["c6_bias"], params["fc6_bias"][::4])
    np.testing.assert_array_equal(ours["c7_weight"], params["fc7_weight"].reshape(64, 64, 1, 1)[::4, ::4])
    np.testing.assert_array_equal(ours["c7_bias"], params["fc7_bias"][::4])


IMAGE = RNG.uniform(0, 255, (2, 3, SIDE, SIDE))


@pytest.mark.parametrize("known", [True, False])
def test_statistics_of_the_input_follow_another_normalization(known: bool) -> None:
    """A network that was trained on plain levels gets images of this normalization, and gives the same."""
    network = relu(conv(norm(data(), "bn_data", fix_gamma=True, eps=2e-5), "a"))
    params = arrays(network) | {
        "bn_data_moving_mean": np.array([120, 110, 100]), "bn_data_moving_var": np.array([3000, 3100, 3200])
    }  # fmt: skip
    places = places_of(network, SIDE)
    mapped = put(layers_of(network, params), places)
    ours = Normalization((123.0, 117.0, 104.0), (58.0, 57.0, 56.0))
    assert adapt_input(mapped, places, LEVELS if known else None, ours)
    normalized = (IMAGE - np.reshape(ours.mean, (3, 1, 1))) / np.reshape(ours.std, (3, 1, 1))
    found = run(network, {**mapped.args, **mapped.aux}, normalized)
    np.testing.assert_allclose(found, run(network, params, IMAGE), rtol=1e-4, atol=1e-4)


def test_statistics_that_fit_stay_and_strange_ones_are_refused() -> None:
    network = conv(norm(data(), "bn_data"), "a")
    places = places_of(network, SIDE)
    ours = Normalization((123.0, 117.0, 104.0), (1.0, 1.0, 1.0))
    for mean, fits in (([0.5, -1, 0], True), ([900, 900, 900], False)):
        params = arrays(network) | {"bn_data_moving_mean": np.array(mean)}
        mapped = put(layers_of(network, params), places)
        if fits:
            assert not adapt_input(mapped, places, None, ours)
        else:
            with pytest.raises(UserError, match="is neither that of levels"):
                adapt_input(mapped, places, None, ours)


def test_a_file_that_lacks_an_array() -> None:
    network = conv(data(), "a")
    with pytest.raises(UserError, match="the file has no a_weight"):
        layers_of(network, {})
