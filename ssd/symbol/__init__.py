"""The network: backbones, extra feature layers, the multibox head, and the graphs to train and test with."""

from ssd.symbol.features import FeatureMap, feature_maps
from ssd.symbol.graphs import attach_detection, build_test, build_train

__all__ = ["FeatureMap", "attach_detection", "build_test", "build_train", "feature_maps"]
