"""The graphs to train and to test with: backbone, head, and what turns predictions into losses or boxes."""

from collections.abc import Sequence
from typing import Any, Protocol

from ssd.config.parts import NetworkConfig, network_config
from ssd.mxnet_compat import mx
from ssd.symbol.features import build_features
from ssd.symbol.head import head_layers, square_in_pixels
from ssd.symbol.losses import box_loss, class_losses
from ssd.symbol.multibox import ANCHORS, CLS, LOC, MultiBox, build_multibox, decode_boxes, is_clipped
from ssd.symbol.targets import build_targets
from ssd.utils.errors import UserError


class DetectionSettings(Protocol):
    """What the graph must know of cfg.detection."""

    @property
    def score(self) -> float: ...
    @property
    def nms(self) -> float: ...
    @property
    def topk(self) -> int: ...


def build_train(cfg: Any, num_classes: int | None = None) -> mx.sym.Symbol:
    """Train graph on `data` [B, 3, H, W] and `label` [B, M, 6] (class, xmin, ymin, xmax, ymax, difficult; normalized,
    padded with rows of -1). `num_classes` defaults to the number of cfg.dataset.classes.
    cfg: what ssd.config.compose() returns, or a NetworkConfig.

    Outputs: cls_prob [B, C + 1, N]; loc_loss [B, 4 N], smooth L1 of positive anchors, 0 elsewhere; cls_label [B, N],
    0 background, c + 1 class c, -1 ignored. Gradients are sums over anchors and images: divide them by the number of
    positives. With compat the original's graph: gradients are divided by counts of their own, and det_out [B, N, 6]
    follows as a fourth output. Where the class loss is not the plain cross-entropy, cls_loss [B, N] is the last one.
    """
    network = network_config(cfg)
    with mx.name.NameManager():
        heads = _predictions(network, num_classes)
        targets = build_targets(heads, network)
        cls_prob, *cls_loss = class_losses(heads, targets.cls, network)
        loc_loss = box_loss(heads, targets, network)
        cls_label = mx.sym.MakeLoss(targets.cls, grad_scale=0, name="cls_label")
        outputs = [cls_prob, loc_loss, cls_label]
        if network.compat:
            found = _multibox_detection(cls_prob, heads, network.detection, network.head.variances)
            outputs.append(mx.sym.MakeLoss(found, grad_scale=0, name="det_out"))
        return mx.sym.Group([*outputs, *cls_loss])


def build_test(cfg: Any, num_classes: int | None = None) -> mx.sym.Symbol:
    """Test graph on `data` [B, 3, H, W]; for outputs see attach_detection, for cfg and num_classes build_train."""
    network = network_config(cfg)
    with mx.name.NameManager():
        heads = _predictions(network, num_classes)
        return _test_outputs(heads, network.detection, network.head.variances, network.compat)


def attach_detection(
    symbol: mx.sym.Symbol, detection: DetectionSettings, variances: Sequence[float], compat: str | None
) -> mx.sym.Symbol:
    """Test graph from a train graph, or any other with the nodes multibox_cls_pred, _loc_pred and _anchors.

    Outputs: cls_prob [B, C + 1, N] and boxes [B, N, 4], corners normalized and clipped to 0..1. With compat one,
    detection [B, N, 6] rows (class or -1, score, xmin, ymin, xmax, ymax), after the original's NMS.
    Errors: UserError when a node is missing.
    """
    missing = [name for name in (CLS, LOC, ANCHORS) if f"{name}_output" not in symbol.get_internals().list_outputs()]
    if missing:
        raise UserError(f"the graph has no node {', '.join(missing)}: this is not an SSD network of this package")
    with mx.name.NameManager():
        return _test_outputs(find_heads(symbol), detection, variances, compat)


def inference_graph(
    symbol: mx.sym.Symbol, detection: DetectionSettings, variances: Sequence[float], compat: str | None
) -> mx.sym.Symbol:
    """What attach_detection gives; a graph that was deployed, whose heads are no longer open, stays as it is."""
    outputs = symbol.list_outputs()
    if not has_heads(symbol) and (len(outputs) == 2 or outputs == ["detection_output"]):
        return symbol
    return attach_detection(symbol, detection, variances, compat)


def has_heads(symbol: mx.sym.Symbol) -> bool:
    """Whether attach_detection can be used on a graph."""
    return {f"{name}_output" for name in (CLS, LOC, ANCHORS)} <= set(symbol.get_internals().list_outputs())


def find_heads(symbol: mx.sym.Symbol) -> MultiBox:
    """The three nodes inside of a graph that has_heads."""
    internals = symbol.get_internals()
    return MultiBox(*(internals[f"{name}_output"] for name in (CLS, LOC, ANCHORS)))


def _predictions(network: NetworkConfig, num_classes: int | None) -> MultiBox:
    if num_classes is None:
        if not network.num_classes:
            raise UserError("dataset.classes is not set: name the classes, or pass num_classes")
        num_classes = network.num_classes
    features, layers = build_features(network), head_layers(network)
    if not network.compat:
        image, pairs = network.input.shape, zip(features, layers, strict=True)
        layers = [square_in_pixels(layer, (feature.height, feature.width), image) for feature, layer in pairs]
    prior = network.loss.focal.prior if network.loss.classification == "focal" else None
    return build_multibox([feature.symbol for feature in features], layers, num_classes, prior, clip=network.head.clip)


def _test_outputs(
    heads: MultiBox, detection: DetectionSettings, variances: Sequence[float], compat: str | None
) -> mx.sym.Symbol:
    if compat:
        cls_prob = mx.sym.SoftmaxActivation(heads.cls, mode="channel", name="cls_prob")
        return _multibox_detection(cls_prob, heads, detection, variances)
    cls_prob = mx.sym.softmax(heads.cls, axis=1, name="cls_prob")
    return mx.sym.Group([cls_prob, decode_boxes(heads, variances)])


def _multibox_detection(
    cls_prob: mx.sym.Symbol, heads: MultiBox, detection: DetectionSettings, variances: Sequence[float]
) -> mx.sym.Symbol:
    return mx.sym.contrib.MultiBoxDetection(
        cls_prob, heads.loc, heads.anchors, threshold=detection.score, nms_threshold=detection.nms,
        nms_topk=detection.topk, force_suppress=False, variances=tuple(variances), clip=is_clipped(heads),
        name="detection",
    )  # fmt: skip
