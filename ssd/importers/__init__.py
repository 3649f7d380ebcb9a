"""Models of other frameworks: Caffe, arrays in .npz files, the releases of mxnet-ssd."""
