"""A training step on PyTorch. train_torch.py contiguous|channels-last THREADS NETWORK SHAPE BATCH

The network comes from a child process with MXNet (its own libraries would get in PyTorch's way): graph, first
parameters, anchors, images. Matching, mining and losses as in the SSD paper, section 2.2, and as MXNet's kernels.
"""

import io
import subprocess
import sys

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, smooth_l1_loss
from torch_graph import VARIANCES, Graph
from turns import serve

MATCH, NEGATIVES, NEGATIVE_OVERLAP, IGNORED = 0.5, 3, 0.5, -1


def main(layout: str, threads: str, network: str, shape: str, batch_size: str) -> None:
    torch.set_num_threads(int(threads))
    message = subprocess.run([sys.executable, __file__, "describe", network, shape, batch_size], check=True,
                          stdout=subprocess.PIPE).stdout  # fmt: skip
    arrays = dict(np.load(io.BytesIO(message)))
    symbol, anchors, pixels, label = (arrays.pop(f"_{name}") for name in ("symbol", "anchors", "pixels", "label"))
    model = Graph(str(symbol), arrays).train()
    memory_format = torch.channels_last if layout == "channels-last" else torch.contiguous_format
    model = model.to(memory_format=memory_format)
    optimizer = torch.optim.SGD(model.parameters(), 0.0001, momentum=0.9, weight_decay=0.0005)
    mean = torch.tensor([123.0, 117.0, 104.0]).reshape(3, 1, 1)
    targets = torch.from_numpy(label)
    corners = torch.from_numpy(anchors)

    def step() -> None:
        data = (torch.from_numpy(pixels).float() - mean).contiguous(memory_format=memory_format)
        loss = multibox_loss(*model(data), corners, targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()

    serve(step)


def multibox_loss(scores: Tensor, offsets: Tensor, anchors: Tensor, label: Tensor) -> Tensor:
    """scores [B, C + 1, N], offsets [B, N, 4], anchors [N, 4] corners, label [B, M, 6] padded with -1."""
    with torch.no_grad():
        matched = [match(anchors, rows[rows[:, 0] >= 0], score) for rows, score in zip(label, scores, strict=True)]
        classes, wanted = (torch.stack(part) for part in zip(*matched, strict=True))
        positive = classes > 0
    entropy = cross_entropy(scores, classes, ignore_index=IGNORED, reduction="sum")
    smooth = smooth_l1_loss(offsets[positive], wanted[positive], reduction="sum")
    return (entropy + smooth) / positive.sum().clamp(min=1)


def match(anchors: Tensor, truth: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
    """Class of each anchor [N] (0 background, -1 ignored) and its wanted offsets [N, 4]."""
    overlap = iou(anchors, truth[:, 1:5])
    best, index = overlap.max(1)
    for number in overlap.max(0).values.argsort():  # every object gets its best anchor, the best pair last
        anchor = overlap[:, number].argmax()
        best[anchor], index[anchor] = 1.0, number
    positive = best >= MATCH
    hardness = torch.where(positive | (best >= NEGATIVE_OVERLAP), -torch.inf, -scores.log_softmax(0)[0])
    count = min(NEGATIVES * int(positive.sum()), int((~positive).sum()))
    classes = torch.full_like(index, IGNORED)
    classes[hardness.topk(count).indices] = 0
    classes[positive] = truth[index[positive], 0].long() + 1
    own, box = centers(anchors), centers(truth[index, 1:5])
    shift = (box[:, :2] - own[:, :2]) / own[:, 2:] / VARIANCES[0]
    return classes, torch.cat([shift, torch.log(box[:, 2:] / own[:, 2:]) / VARIANCES[1]], 1)


def iou(first: Tensor, second: Tensor) -> Tensor:
    """[N, M] of corners [N, 4] and [M, 4]."""
    low = torch.maximum(first[:, None, :2], second[:, :2])
    high = torch.minimum(first[:, None, 2:], second[:, 2:])
    shared = (high - low).clamp(min=0).prod(2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(1) for boxes in (first, second)]
    return shared / (areas[0][:, None] + areas[1] - shared)


def centers(corners: Tensor) -> Tensor:
    return torch.cat([(corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]], 1)


def describe(network: str, shape: str, batch_size: str) -> None:
    """Writes graph, parameters, anchors, images and labels to the standard output, as .npz."""
    from train_mxnet import ROWS, images

    from ssd.config.compose import compose
    from ssd.mxnet_compat import mx
    from ssd.symbol import build_test

    cfg = compose([f"backbone={network}", f"data_shape={shape}", "dataset=voc0712", "dataset.root=."])
    pixels, label = images(int(batch_size), cfg.data_shape.height, ROWS)
    symbol = build_test(cfg)
    module = mx.mod.Module(mx.sym.Group([symbol, symbol.get_internals()["multibox_anchors_output"]]), label_names=None)
    module.bind([("data", pixels.shape)], for_training=False)
    mx.random.seed(0)
    module.init_params(mx.init.Xavier())
    module.forward(mx.io.DataBatch([mx.nd.zeros(pixels.shape)]), is_train=False)
    params = {name: array.asnumpy() for part in module.get_params() for name, array in part.items()}
    buffer = io.BytesIO()
    np.savez(buffer, _symbol=symbol.tojson(), _anchors=module.get_outputs()[2].asnumpy()[0], _pixels=pixels,
             _label=label, **params)  # fmt: skip
    sys.stdout.buffer.write(buffer.getvalue())


if __name__ == "__main__":
    if sys.argv[1] == "describe":
        describe(*sys.argv[2:])
    else:
        main(*sys.argv[1:])
