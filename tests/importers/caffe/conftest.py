"""Networks converted and beside OpenCV's."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ssd.importers.caffe.convert import Converted, Options, convert, load
from ssd.importers.caffe.parity import Reference, as_trained, run_outputs

sys.path.insert(0, str(Path(__file__).parent))  # caffe_files, which writes what the tests read

BGR = Options("BGR", None, True, None)


@pytest.fixture
def both(tmp_path: Path) -> Callable[..., Converted]:
    """both(net, options, size of values) converts a network of caffe_files.Net, compares all outputs with OpenCV's."""

    def check(net, options: Options = BGR, spread: float = 1.0) -> Converted:
        files = net.save(tmp_path)
        converted = convert(load(*files), options)
        data = (np.random.default_rng(5).standard_normal(converted.input_shape) * spread).astype(np.float32)
        names = list(converted.outputs)
        theirs = Reference(*files).run(as_trained(data, options), names)
        for name, our, their in zip(names, run_outputs(converted, data), theirs, strict=True):
            assert our.size == their.size, (name, our.shape, their.shape)
            scale = max(1, np.abs(their).max())
            assert np.abs(our - their.reshape(our.shape)).max() <= 1e-4 * scale, name
        return converted

    return check
