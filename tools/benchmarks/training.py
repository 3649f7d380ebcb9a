"""How fast a network trains: our step beside the original mxnet-ssd's and PyTorch's.

    python tools/benchmarks/training.py [mobilenet resnet50 vgg16_reduced] [--batch-size 4] [--rounds 5] [--steps 2]

One step = forward, backward, update and the losses on the host, on images in memory; the data loader has a benchmark
of its own. The original: 58 label rows, NMS inside the graph and class probabilities copied to the host in every step,
as it runs by default, and with OpenMP and imports as we set them. PyTorch (pip install torch; left out without it):
the same network, matching, mining and losses, in its default memory layout and in channels-last.
"""

import argparse

from turns import Contender, in_turns

from ssd.mxnet_compat import physical_cores

NETWORKS = ["mobilenet", "resnet50", "vgg16_reduced"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=NETWORKS)
    parser.add_argument("--data-shape", default="300")
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=2, help="per round")
    options = parser.parse_args()
    threads = str(physical_cores())
    for network in options.networks:
        arguments = [network, options.data_shape, str(options.batch_size)]
        contenders = [
            Contender("ours", "train_mxnet.py", ["ours", *arguments], {}),
            Contender("original, as it runs", "train_mxnet.py", ["original", *arguments], {"SSD_THREADS": "unset"}),
            Contender("original, our settings", "train_mxnet.py", ["original", *arguments], {}),
            Contender("PyTorch", "train_torch.py", ["contiguous", threads, *arguments], {}),
            Contender("PyTorch, channels-last", "train_torch.py", ["channels-last", threads, *arguments], {}),
        ]
        able, unable = in_turns(contenders, options.rounds, options.steps)
        print(f"\n{network} {options.data_shape}, batch {options.batch_size}, {threads} threads, "
              f"medians of {options.rounds * options.steps} steps")  # fmt: skip
        original = next(contender for contender in able if contender.name == "original, as it runs")
        for contender in able:
            print(
                f"  {contender.name:24}{options.batch_size / contender.median:8.2f} images/s"
                f"{original.median / contender.median:8.2f} x original"
                f"{contender.megabytes:9.0f} MB{contender.megabytes / original.megabytes:8.2f} x original"
            )
        for name, problem in unable.items():
            print(f"  {name:24}left out: {problem}")


if __name__ == "__main__":
    main()
