"""Networks that turn the image into features: one file a family, chosen by `_target_` in conf/backbone.

Each has `build(data, <options>)`, which takes the input symbol [B, 3, H, W] and returns the last feature; the head
reaches earlier ones by the names of their outputs. Parameter names are those of the published weights.
"""
