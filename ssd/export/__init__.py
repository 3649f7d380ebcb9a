"""A trained model to other forms: bundles, ONNX, eight bits, and the check that they detect the same."""
