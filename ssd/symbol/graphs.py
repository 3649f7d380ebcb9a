"""The graphs to train and to test with: backbone, head, and what turns predictions into losses or boxes."""

from collections.abc import Sequence
from typing import Protocol

from omegaconf import DictConfig

from ssd.engine import mx
from ssd.errors import UserError
from ssd.symbol.decoding import decode_boxes
from ssd.symbol.features import build_features
from ssd.symbol.head import head_layers, square_in_pixels
from ssd.symbol.multibox import ANCHORS, CLS, LOC, MultiBox, build_multibox

IGNORE = -1  # class label of anchors that are neither positive nor chosen as negatives


class DetectionSettings(Protocol):
    """What the graph must know of cfg.detection."""

    @property
    def score(self) -> float: ...
    @property
    def nms(self) -> float: ...
    @property
    def topk(self) -> int: ...


def build_train(cfg: DictConfig, num_classes: int | None = None) -> mx.sym.Symbol:
    """Train graph on `data` [B, 3, H, W] and `label` [B, M, 6] (class, xmin, ymin, xmax, ymax, difficult; normalised,
    padded with rows of -1). `num_classes` defaults to the number of cfg.dataset.classes.

    Outputs: cls_prob [B, C + 1, N]; loc_loss [B, 4 N], smooth L1 of positive anchors, 0 elsewhere; cls_label [B, N],
    0 background, c + 1 class c, -1 ignored. Gradients are sums over anchors and images: divide them by the number of
    positives. With compat the original's graph: gradients are divided by counts of their own, and det_out [B, N, 6]
    follows as a fourth output.
    """
    with mx.name.NameManager():
        heads = _predictions(cfg, num_classes)
        loc_target, loc_mask, cls_target = _targets(heads, cfg)
        if not cfg.compat and cfg.matching.min_negatives > 0:
            cls_target = _with_background(heads, cls_target, cfg)
        cls_prob = _cls_loss(heads, cls_target, cfg)
        loc_loss = _loc_loss(heads, loc_target, loc_mask, cfg)
        cls_label = mx.sym.MakeLoss(cls_target, grad_scale=0, name="cls_label")
        outputs = [cls_prob, loc_loss, cls_label]
        if cfg.compat:
            found = _multibox_detection(cls_prob, heads, cfg.detection, cfg.head.variances)
            outputs.append(mx.sym.MakeLoss(found, grad_scale=0, name="det_out"))
        return mx.sym.Group(outputs)


def build_test(cfg: DictConfig, num_classes: int | None = None) -> mx.sym.Symbol:
    """Test graph on `data` [B, 3, H, W]; for outputs see attach_detection."""
    with mx.name.NameManager():
        return _test_outputs(_predictions(cfg, num_classes), cfg.detection, cfg.head.variances, cfg.compat)


def attach_detection(
    symbol: mx.sym.Symbol, detection: DetectionSettings, variances: Sequence[float], compat: str | None
) -> mx.sym.Symbol:
    """Test graph from a train graph, or any other with the nodes multibox_cls_pred, _loc_pred and _anchors.

    Outputs: cls_prob [B, C + 1, N] and boxes [B, N, 4], corners normalised and clipped to 0..1. With compat one,
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


def _predictions(cfg: DictConfig, num_classes: int | None) -> MultiBox:
    if num_classes is None:
        if not cfg.dataset.classes:
            raise UserError("dataset.classes is not set: name the classes, or pass num_classes")
        num_classes = len(cfg.dataset.classes)
    features, layers = build_features(cfg), head_layers(cfg)
    if not cfg.compat:
        image = (cfg.data_shape.height, cfg.data_shape.width)
        pairs = zip(features, layers, strict=True)
        layers = [square_in_pixels(layer, (feature.height, feature.width), image) for feature, layer in pairs]
    return build_multibox([feature.symbol for feature in features], layers, num_classes)


def _targets(heads: MultiBox, cfg: DictConfig) -> mx.sym.Symbol:
    """What each anchor should say: offsets [B, 4 N], mask of positives [B, 4 N], class [B, N]."""
    matching = cfg.matching
    # Only the GPU kernel knows minimum_negative_samples; _with_background works everywhere, and by itself.
    min_negatives = matching.min_negatives if cfg.compat else 0
    return mx.sym.contrib.MultiBoxTarget(
        heads.anchors, mx.sym.Variable("label"), heads.cls,
        overlap_threshold=matching.overlap, ignore_label=IGNORE, negative_mining_ratio=matching.negative_ratio,
        minimum_negative_samples=min_negatives, negative_mining_thresh=matching.negative_overlap,
        variances=tuple(cfg.head.variances), name="multibox_target",
    )  # fmt: skip


def _with_background(heads: MultiBox, target: mx.sym.Symbol, cfg: DictConfig) -> mx.sym.Symbol:
    """Targets [B, N] in which images without a positive anchor, where MultiBoxTarget lets all anchors be ignored, have
    matching.min_negatives of background: those least believed to be it, as in the mining of the other images."""
    count = min(cfg.matching.min_negatives, _anchor_count(heads, cfg))
    scores = mx.sym.BlockGrad(heads.cls, name="negatives_scores")
    background = mx.sym.slice_axis(mx.sym.log_softmax(scores, axis=1, name="negatives_log_prob"),
                                   axis=1, begin=0, end=1, name="negatives_background")  # fmt: skip
    background = mx.sym.Reshape(background, shape=(0, -1), name="negatives_background_flat")
    hardest = mx.sym.topk(background, axis=1, k=count, ret_typ="mask", is_ascend=True, name="negatives_hardest")
    positive = mx.sym.max(target, axis=1, keepdims=True, name="negatives_best")
    chosen = mx.sym.broadcast_mul(hardest, positive <= 0, name="negatives_chosen")
    return mx.sym.where(chosen, mx.sym.zeros_like(target), target, name="negatives_target")


def _anchor_count(heads: MultiBox, cfg: DictConfig) -> int:
    _, (shape,), _ = heads.anchors.infer_shape_partial(data=(1, 3, cfg.data_shape.height, cfg.data_shape.width))
    return int(shape[1])


def _cls_loss(heads: MultiBox, target: mx.sym.Symbol, cfg: DictConfig) -> mx.sym.Symbol:
    if cfg.compat:
        normalization, scale = "valid", 1.0
    else:
        # Without normalisation MXNet still divides by the N anchors of an image; this undoes it.
        normalization, scale = "null", float(_anchor_count(heads, cfg))
    return mx.sym.SoftmaxOutput(
        heads.cls, target, multi_output=True, use_ignore=True, ignore_label=IGNORE, grad_scale=scale,
        normalization=normalization, name="cls_prob",
    )  # fmt: skip


def _loc_loss(heads: MultiBox, target: mx.sym.Symbol, mask: mx.sym.Symbol, cfg: DictConfig) -> mx.sym.Symbol:
    difference = mx.sym.elemwise_sub(heads.loc, target, name="loc_difference")
    masked = mx.sym.elemwise_mul(mask, difference, name="loc_masked")
    loss = mx.sym.smooth_l1(masked, scalar=1.0, name="loc_loss_")
    return mx.sym.MakeLoss(loss, grad_scale=1.0, normalization="valid" if cfg.compat else "null", name="loc_loss")


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
        nms_topk=detection.topk, force_suppress=False, variances=tuple(variances), clip=True, name="detection",
    )  # fmt: skip
