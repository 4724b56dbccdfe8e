"""What the peers in Python share: the clock, the command line and the lines they print."""
import argparse
import os
import pathlib
import time

started = time.monotonic()


def arguments(workloads):
    parser = argparse.ArgumentParser()
    parser.add_argument("workload", choices=workloads)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--seconds", type=float, default=2, help="how long to go on repeating")
    parser.add_argument("--compile", action="store_true", help="torch.compile, for torch_fused.py")
    return parser.parse_args()


def digits(numpy):
    """The training images as floats [N, 784] in [0, 1], and the labels."""
    folder = pathlib.Path(os.environ["MNIST_DIR"])
    images = numpy.fromfile(folder / "train-images-idx3-ubyte", numpy.uint8)[16:]
    labels = numpy.fromfile(folder / "train-labels-idx1-ubyte", numpy.uint8)[8:]
    images = images.astype(numpy.float32).reshape(-1, 784)
    images /= 255
    return images, labels


class Run:
    def __init__(self, system, args):
        self.system, self.workload, self.seconds = system, args.workload, args.seconds

    def report(self, metric, value):
        print(f"{self.system} {self.workload} {metric} {value:.6g}", flush=True)

    def best(self, repeat):
        """The shortest time of several calls, at least two, after one that warms up."""
        repeat()
        self.report("warm_up_s", time.monotonic() - started)
        end, times = time.monotonic() + self.seconds, []
        while len(times) < 2 or time.monotonic() < end:
            start = time.monotonic()
            repeat()
            times.append(time.monotonic() - start)
        return min(times)

    def finish(self):
        for line in pathlib.Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                self.report("peak_MB", int(line.split()[1]) / 1024)
