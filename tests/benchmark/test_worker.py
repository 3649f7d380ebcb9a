"""What is measured, in this process."""

import numpy as np
import pytest
from omegaconf import OmegaConf

from ssd.benchmark.networks import check_format, open_network, random_model, write_network
from ssd.benchmark.worker import LEAST, STAGES, configured, measure, one_line, prepared, timed
from ssd.config.compose import compose
from ssd.mxnet_compat import mx
from ssd.utils.errors import UserError


@pytest.fixture(scope="module")
def cfg():
    return compose(["job=benchmark", "backbone=small", "job.classes=5"])


def subject(cfg):
    return configured({"cfg": OmegaConf.to_container(cfg, resolve=True), "overrides": []})


@pytest.fixture(scope="module")
def path(cfg, tmp_path_factory):
    return write_network(subject(cfg), "mxnet", tmp_path_factory.mktemp("network"))


def test_random_weights_answer_numbers(cfg):
    model = random_model(subject(cfg))
    assert len(model.spec.classes) == 5
    assert all(np.isfinite(array.asnumpy()).all() for array in model.arg_params.values())


@pytest.mark.parametrize("backbone", ["mobilenet", "resnet50", "inceptionv3", "densenet_tiny"])
def test_random_weights_keep_activations_in_range(backbone):
    """Neither infinite nor so small that processors slow down."""
    cfg = compose(["job=benchmark", f"backbone={backbone}", "data_shape=256"])
    model = random_model(subject(cfg))
    inside = model.symbol.get_internals()
    names = [name for name in inside.list_outputs() if name.endswith("_pred_conv_output")]
    graph = mx.sym.Group([inside[name] for name in names])
    args = {name: model.arg_params[name] for name in graph.list_arguments() if name != "data"}
    aux = {name: model.aux_params[name] for name in graph.list_auxiliary_states()}
    args["data"] = mx.nd.random.normal(shape=(1, 3, 256, 256))
    for output in graph.bind(mx.cpu(), args, aux_states=aux, grad_req="null").forward():
        assert 1e-6 < float(output.asnumpy().std()) < 1e12


def test_stages(cfg, path):
    detector = open_network(subject(cfg).device, path, 2)
    forward, boxes, images = (prepared(detector, stage)() for stage in STAGES)
    assert forward[0].shape[:2] == (2, 6)
    assert np.isfinite(forward[0]).all()
    assert len(boxes) == len(images) == 2
    np.testing.assert_allclose(images[0][:, 2:], boxes[0][:, 2:] * 128, atol=1e-3)


def test_times(clock_of):
    clock, calls = clock_of("ssd.benchmark.worker"), []
    assert len(list(timed(lambda: calls.append(1), 0))) == LEAST
    assert len(calls) == LEAST + 2, "warmed up"
    assert list(timed(lambda: clock.sleep(0.25), 2.0)) == [0.25] * 8


def test_measuring(cfg, path):
    answer = measure(subject(cfg), {"path": path, "batches": [2, 1], "stage": "forward", "seconds": 0.01})
    assert list(answer["batches"]) == [1, 2], "from the smallest on, for the memory"
    assert answer["threads"] >= 1
    for found in answer["batches"].values():
        assert len(found["seconds"]) >= LEAST
        assert found["memory_mb"] > 50


def test_a_batch_that_fails_is_told(cfg, path):
    answer = measure(subject(cfg), {"path": path, "batches": [1], "stage": "nothing", "seconds": 0.01})
    assert answer["batches"][1] == {"error": "KeyError: 'nothing'"}


def test_another_network_in_the_same_configuration(cfg):
    plain = OmegaConf.to_container(cfg, resolve=True)
    assert configured({"cfg": plain, "overrides": []}).network.backbone.name == "small"
    other = configured({"cfg": plain, "overrides": ["backbone=mobilenet_025", "data_shape=[160,320]"]})
    assert (other.network.backbone.name, other.network.input.shape) == ("mobilenet_025", (160, 320))
    assert len(random_model(other).spec.classes) == 5
    assert random_model(other).spec.backbone == "mobilenet_025"


def test_forms(cfg, tmp_path):
    with pytest.raises(UserError, match=r"job.formats: 'caffe' is no format, choose from mxnet, .*as_is"):
        check_format("caffe")
    with pytest.raises(UserError, match="as_is needs model=: a run directory, .* or an .onnx file"):
        write_network(subject(cfg), "as_is", tmp_path)
    with_model = OmegaConf.merge(cfg, {"model": "some/where.onnx"})
    assert write_network(subject(with_model), "as_is", tmp_path) == "some/where.onnx"


def test_reasons_are_one_line():
    assert one_line(UserError("model x: missing")) == "model x: missing"
    assert (
        one_line(RuntimeError("Traceback:\n  File a.cc\nError: out of memory\n"))
        == "RuntimeError: Error: out of memory"
    )
    assert one_line(MemoryError()) == "MemoryError: no message"


@pytest.mark.parametrize("classes", ["0", "cat", "[1,2]"])
def test_what_is_not_a_number_of_classes(classes):
    with pytest.raises(UserError, match="job.classes=.*: expected how many classes the network has, 1 or more"):
        random_model(subject(compose(["job=benchmark", "backbone=small", f"job.classes={classes}"])))
