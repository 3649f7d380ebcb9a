"""The graph of MXNet as a graph of ONNX."""
