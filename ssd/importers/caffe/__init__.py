"""Networks of Caffe: read without Caffe, turned into MXNet graphs, compared with OpenCV."""
