"""What a call from Python costs over the same call from C++, turn about on the same disk.

    build/python/env/bin/python bench/python/python_bench.py [--pairs 5] [--directory DIR]

Needs the preset `release` and the environment that `tools/python-test.sh` makes. Prints, for each
pair and as the median: GB/s of one get_into of 64 x 2 MiB from L3, and the microseconds of a put
and a get of 1 KiB in L2 (each the median within its run).
"""

import argparse
import json
import pathlib
import shutil
import statistics
import subprocess
import tempfile
import time

import numpy

import cairn

TENSORS = 64
TENSOR_BYTES = 2 << 20
SMALL_PAIRS = 2000
ROUNDS = 7
ROOT = pathlib.Path(__file__).parents[2]


def aligned(size):
    # On huge pages, as the C++ side: numpy asks for them, and this has whole ones.
    memory = numpy.ones(size + TENSOR_BYTES, numpy.uint8)
    begin = -memory.ctypes.data % TENSOR_BYTES
    return memory[begin : begin + size]


def get_into_rate(store):
    memory = aligned(TENSORS * TENSOR_BYTES).reshape(TENSORS, TENSOR_BYTES)
    keys = [f"large{i}" for i in range(TENSORS)]
    tensors = list(memory)
    store.put_from(keys, tensors)
    seconds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        store.get_into(keys, tensors)
        seconds.append(time.perf_counter() - start)
    return memory.nbytes / statistics.median(seconds) / 1e9


def put_get_us(store):
    tensor = numpy.ones(1024, numpy.uint8)
    keys = [f"small{i}" for i in range(64)]
    seconds = []
    for i in range(SMALL_PAIRS):
        key = keys[i % 64]
        start = time.perf_counter()
        store.put(key, tensor)
        store.get(key)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds) * 1e6


def run_python(directory):
    options = {"l2_bytes_max": 64 << 20, "l3_bytes_max": 512 << 20}
    with cairn.Store(directory, device=cairn.DeviceKind.HOST, **options) as store:
        return {"get_into_gb_s": get_into_rate(store), "put_get_us": put_get_us(store)}


def run_cpp(directory):
    command = [ROOT / "build/release/bin/same_in_cpp", directory, str(ROUNDS)]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--directory", default=str(ROOT / "build"))
    arguments = parser.parse_args()
    work = pathlib.Path(tempfile.mkdtemp(prefix="python-bench-", dir=arguments.directory))
    ratios, differences = [], []
    try:
        for pair in range(arguments.pairs):
            sides = {"cpp": run_cpp, "python": run_python}
            # Who goes first changes from pair to pair.
            order = sorted(sides, reverse=pair % 2 == 1)
            figures = {side: sides[side](str(work / f"{side}{pair}")) for side in order}
            for side in sides:
                shutil.rmtree(work / f"{side}{pair}")
            cpp, python = figures["cpp"], figures["python"]
            ratios.append(python["get_into_gb_s"] / cpp["get_into_gb_s"])
            differences.append(python["put_get_us"] - cpp["put_get_us"])
            print(
                f"get_into 64 x 2 MiB: C++ {cpp['get_into_gb_s']:.2f} GB/s, "
                f"Python {python['get_into_gb_s']:.2f} GB/s, ratio {ratios[-1]:.3f}; "
                f"put + get 1 KiB: C++ {cpp['put_get_us']:.2f} us, "
                f"Python {python['put_get_us']:.2f} us"
            )
    finally:
        shutil.rmtree(work)
    print(
        f"median of {arguments.pairs} pairs: get_into ratio {statistics.median(ratios):.3f}, "
        f"put + get {statistics.median(differences):+.2f} us over C++"
    )


if __name__ == "__main__":
    main()
