"""Detectors of GluonCV: the parameters of its SSD on VGG-16 (net.save_parameters), as a model of this package.

A file holds arrays named by the structure of the network and nothing else: features.stages.0.2.weight is the second
convolution of the first stage (activations count, too), features.extras, features.norm4.scale, class_predictors and
box_predictors are the head. What it is meant for, sizes of anchors, input and classes, is in conf/weights/gluoncv. The
anchors that a file contains (anchor_generators) are compared with those of the configuration.

The network decodes as GluonCV's does: offsets by variances 0.1 and 0.2, softmax over classes with the background first,
candidates above 0.01, suppression per class above an IoU of 0.45 of boxes that are clipped to the image afterwards, 100
boxes. GluonCV takes the best 400 candidates of all classes together, this package of each class: it may find more boxes
of low scores.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from ssd.checkpoint.index import check_file
from ssd.checkpoint.model import Model, ModelSpec, Params, check_params
from ssd.checkpoint.param_file import read_arrays, read_shapes
from ssd.config.parts import NetworkConfig
from ssd.mxnet_compat import mx
from ssd.symbol.anchors import AnchorGrid, anchor_grids
from ssd.symbol.graphs import build_test
from ssd.symbol.head import head_layers
from ssd.utils.errors import UserError, first_few

FORMAT = "gluoncv_ssd"
SUFFIX = ".params"
CLASS_PREDICTOR = "class_predictors.{}.predictor.weight"
SCALE = "features.init_scale"  # of the input, after standardization
ANCHORS = re.compile(r"anchor_generators\.\d+\.anchors")
STANDARD = (58.395, 57.12, 57.375)  # RGB, standard deviations of ImageNet that GluonCV divides images by
ANCHORS_OF_FIRST = 4
DENSE = {"0": "fc6", "2": "fc7"}  # in features.stages.5
MAPS = ("relu4_3", "relu7")  # of the backbone; multi_feat_2 and so on follow
MAX_SHIFT = 1e-3  # pixels that anchors may differ by
MAX_SHOWN = 4


def is_gluoncv(path: str | Path) -> bool:
    """Whether a file has the parameters of a GluonCV detector, by its names."""
    path = Path(path)
    return path.suffix == SUFFIX and path.is_file() and CLASS_PREDICTOR.format(0) in read_shapes(path)


def count_classes(path: Path) -> int:
    """Without the background, of a file that is_gluoncv. The first map has four anchors per cell in all its models."""
    return read_shapes(path)[CLASS_PREDICTOR.format(0)][0] // ANCHORS_OF_FIRST - 1


def read_gluoncv(path: Path) -> Params:
    """The parameters in a file, under the names of backbone=vgg16_reduced and its head.

    Errors: UserError when it is damaged, or has parameters that no SSD on VGG-16 has.
    """
    return _under_our_names(_read(path), path)


def load_gluoncv(path: Path, network: NetworkConfig, classes: Sequence[str]) -> Model:
    """The detector in a file, of this network.

    Errors: UserError when the file is damaged, lacks a parameter, or has one of another shape; when it has others than
    these classes, or other anchors than this network.
    """
    arrays = _read(path)
    count = _count_classes(arrays, network, path)
    if count != len(classes):
        raise UserError(f"{path}: predicts {count} classes, expected {len(classes)}: {', '.join(classes)[:80]}")
    _check_anchors(arrays, network, path)
    symbol = build_test(network, count)
    model = Model(ModelSpec.from_config(network, classes), symbol, _under_our_names(arrays, path), {})
    check_params(symbol, model, str(path))
    return model


def _read(path: Path) -> dict[str, np.ndarray]:
    check_file(path)
    return {name: array.asnumpy().astype(np.float32) for name, array in read_arrays(path).items()}


def _count_classes(arrays: Mapping[str, np.ndarray], network: NetworkConfig, path: Path) -> int:
    """Without the background. Errors: UserError when the numbers of maps or anchors differ."""
    layers = head_layers(network)
    maps = sum(CLASS_PREDICTOR.format(number) in arrays for number in range(len(arrays)))
    if maps != len(layers):
        raise UserError(f"{path}: has predictors on {maps} maps, expected {len(layers)} at {network.input.name} pixels")
    rows, anchors = len(arrays[CLASS_PREDICTOR.format(0)]), layers[0].anchors_per_cell
    if rows % anchors or rows < 2 * anchors:
        raise UserError(
            f"{path}: {CLASS_PREDICTOR.format(0)} has {rows} rows, expected a multiple of {anchors} anchors"
        )
    return rows // anchors - 1


def _under_our_names(arrays: Mapping[str, np.ndarray], path: Path) -> Params:
    """Errors: UserError naming what no SSD on VGG-16 has."""
    if SCALE in arrays and not np.allclose(arrays[SCALE].ravel(), STANDARD, rtol=1e-4):
        raise UserError(f"{path}: {SCALE} is {arrays[SCALE].ravel()[:3].tolist()}, expected {list(STANDARD)}")
    weights = {name: array for name, array in arrays.items() if name != SCALE and not ANCHORS.fullmatch(name)}
    kernels = {name: array.shape[-1] for name, array in weights.items() if array.ndim == 4}
    names = {name: our_name(name, kernels) for name in weights}
    if stray := sorted(name for name, ours in names.items() if ours is None):
        raise UserError(f"{path}: has {first_few(stray, MAX_SHOWN)}; expected GluonCV's SSD on VGG-16")
    return {str(names[name]): mx.nd.array(array) for name, array in weights.items()}


def our_name(name: str, kernels: Mapping[str, int]) -> str | None:
    """What backbone=vgg16_reduced and its head call a parameter of GluonCV's; None for one they do not have.

    features.stages.2.2.bias -> conv3_2_bias; box_predictors.1.predictor.weight -> relu7_loc_pred_conv_weight.
    kernels: sides of the kernels by GluonCV's names; layers here are named by them.
    """
    if name == "features.norm4.scale":
        return f"{MAPS[0]}_scale"
    if match := re.fullmatch(r"features\.stages\.5\.([02])\.(weight|bias)", name):
        return f"{DENSE[match[1]]}_{match[2]}"
    if match := re.fullmatch(r"features\.stages\.([0-4])\.([024])\.(weight|bias)", name):
        return f"conv{int(match[1]) + 1}_{int(match[2]) // 2 + 1}_{match[3]}"
    if match := re.fullmatch(r"features\.extras\.(\d)\.([02])\.(weight|bias)", name):
        return f"{_extra(int(match[1]), match[2], kernels)}_conv_{match[3]}"
    if match := re.fullmatch(r"(class|box)_predictors\.(\d)\.predictor\.(weight|bias)", name):
        number, kind = int(match[2]), "cls" if match[1] == "class" else "loc"
        map_ = MAPS[number] if number < len(MAPS) else f"{_extra(number - len(MAPS), '2', kernels)}_relu"
        return f"{map_}_{kind}_pred_conv_{match[3]}"
    return None


def _extra(number: int, place: str, kernels: Mapping[str, int]) -> str:
    """The extra layer `number`, from 0: its first (place 0) or second (2) convolution."""
    kernel = kernels.get(f"features.extras.{number}.{place}.weight", 0)
    return f"multi_feat_{number + len(MAPS)}_conv_{kernel}x{kernel}"


def _check_anchors(arrays: Mapping[str, np.ndarray], network: NetworkConfig, path: Path) -> None:
    """Errors: UserError naming the first map whose anchors are not those of the configuration."""
    height, width = network.input.shape
    for number, grid, theirs in _stored_anchors(arrays, network):
        ours = grid.boxes() * (width, height, width, height)
        ours = np.concatenate([(ours[:, :2] + ours[:, 2:]) / 2, ours[:, 2:] - ours[:, :2]], axis=1)
        if theirs.shape != ours.shape or np.abs(theirs - ours).max() > MAX_SHIFT:
            sides = " and ".join(f"{size * height:.4g}" for size in network.head.sizes[number])
            raise UserError(
                f"{path}: map {number} has other anchors than head.sizes, of {sides} pixels; expected the overrides of "
                "its own model"
            )


def _stored_anchors(
    arrays: Mapping[str, np.ndarray], network: NetworkConfig
) -> Iterator[tuple[int, AnchorGrid, np.ndarray]]:
    """(number, anchors here, those in the file) of the maps that have some there. Those are [N, 4], centers and sizes
    in pixels, of as many cells as the map has."""
    for number, grid in enumerate(anchor_grids(network)):
        stored = arrays.get(
            f"anchor_generators.{number}.anchors"
        )  # [1, 1, rows, columns, 4 K], of more cells than used
        if stored is not None:
            used = stored[0, 0, : grid.rows, : grid.columns] if stored.ndim == 5 else stored
            yield number, grid, used.reshape(-1, 4) if used.size % 4 == 0 else used
