"""A network description with the defaults that OpenCV lacks, or has otherwise than Caffe, written out."""

from pathlib import Path

from google.protobuf import text_format

from ssd.importers.caffe.priors import four_variances
from ssd.importers.caffe.text import parse, read_prototxt

# OpenCV demands some of these, and clips anchors unless told not to; Caffe does not.
DEFAULTS = {
    "prior_box_param": ("flip", "clip", "offset"),
    "detection_output_param": (
        "share_location", "background_label_id", "code_type", "keep_top_k", "confidence_threshold"
    ),
}  # fmt: skip


def explicit(prototxt: Path) -> str:
    """The text of a description that was found to be convertible. Errors: UserError, see text.py."""
    message = parse(read_prototxt(prototxt), "NetParameter", prototxt, unknown=False)
    for layer in message.layer:
        for options, fields in DEFAULTS.items():
            if layer.HasField(options):
                part = getattr(layer, options)
                for field in fields:
                    setattr(part, field, getattr(part, field))
        if layer.HasField("prior_box_param"):
            part = layer.prior_box_param
            part.variance[:] = four_variances(part.variance)
        if layer.HasField("detection_output_param"):
            suppression = layer.detection_output_param.nms_param
            suppression.nms_threshold, suppression.top_k = suppression.nms_threshold, suppression.top_k
    return text_format.MessageToString(message)


def ignored_by_opencv(prototxt: Path) -> list[str]:
    """Options that OpenCV passes over, so that its answer is not Caffe's."""
    message = parse(read_prototxt(prototxt), "NetParameter", prototxt, unknown=False)
    layers = [*message.layer, *message.layers]
    return [f"k of layer {layer.name!r}" for layer in layers if layer.lrn_param.k != 1]
