"""How good detections are: PASCAL VOC and COCO metrics on plain numpy arrays."""

from ssd.evaluation.coco import evaluate_coco
from ssd.evaluation.mxnet_ssd import evaluate_mxnet_ssd
from ssd.evaluation.voc import evaluate_voc

__all__ = ["evaluate_coco", "evaluate_mxnet_ssd", "evaluate_voc"]
