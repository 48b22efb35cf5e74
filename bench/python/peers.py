"""What Python hosts keep tensors in, beside one another on the same disk: cairn, safetensors files,
and plain files read and written by a pool of threads.

    build/python/env/bin/python bench/python/peers.py [--rounds 5] [--directory DIR]
        [--tensors 512] [--bytes 1048576] [--batch 64]

Needs the environment that `tools/python-test.sh` makes. Each round writes every tensor once and
flushes the device, lets go of the page cache, and reads every tensor once in random order, whole
batches at a time; who begins changes from round to round. Prints the medians as a table in
markdown: GB/s, seconds of this process's CPU for a GB (cairn's threads among them), and what a read
says after one byte on the disk was flipped.
"""

import argparse
import concurrent.futures
import importlib.metadata
import mmap
import os
import pathlib
import random
import resource
import shutil
import statistics
import tempfile
import time

import numpy
import safetensors
import safetensors.numpy

import cairn

THREADS = 4
HUGE_PAGE = 2 << 20


def aligned(count, size):
    # In memory already, and on huge pages, which numpy asks for.
    memory = numpy.ones(count * size + HUGE_PAGE, numpy.uint8)
    begin = -memory.ctypes.data % HUGE_PAGE
    return list(memory[begin : begin + count * size].reshape(count, size))


def cpu_seconds():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


class Cairn:
    name = f"cairn {importlib.metadata.version('cairn')}: put_from, get_into"

    def __init__(self, directory, total_bytes):
        self.directory = directory
        room = 2 * total_bytes + (256 << 20)
        self.store = cairn.Store(
            str(directory), l2_bytes_max=64 << 20, l3_bytes_max=room, device=cairn.DeviceKind.HOST
        )

    def put(self, keys, tensors):
        self.store.put_from(keys, tensors)

    def flush(self):
        self.store.flush()

    def get(self, keys, targets):
        try:
            self.store.get_into(keys, targets)
        except cairn.BatchError as error:
            raise next(one for one in error.errors if one is not None) from error
        return targets

    def forget_pages(self):
        pass  # It reads past the page cache.

    def files(self):
        return sorted((self.directory / "data").iterdir())

    def close(self):
        self.store.close()


class Files:
    """One file for each tensor, in folders of a host's own making."""

    def __init__(self, directory, _total_bytes):
        self.directory = directory
        directory.mkdir()
        self.pool = concurrent.futures.ThreadPoolExecutor(THREADS)

    def path(self, key):
        return self.directory / f"{key}.bin"

    def flush(self):
        def sync(path):
            with open(path, "rb") as file:
                os.fsync(file.fileno())

        list(self.pool.map(sync, self.files()))

    def forget_pages(self):
        for path in self.files():
            with open(path, "rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    def files(self):
        return sorted(self.directory.iterdir())

    def put(self, keys, tensors):
        list(self.pool.map(self.put_one, keys, tensors))

    def get(self, keys, targets):
        return list(self.pool.map(self.get_one, keys, targets))

    def close(self):
        self.pool.shutdown()


class PlainFiles(Files):
    name = f"plain files, {THREADS} threads"

    def put_one(self, key, tensor):
        with open(self.path(key), "wb", buffering=0) as file:
            file.write(tensor)

    def get_one(self, key, target):
        with open(self.path(key), "rb", buffering=0) as file:
            file.readinto(target)
        return target


class Safetensors(Files):
    name = f"safetensors {safetensors.__version__} files, {THREADS} threads"

    def put_one(self, key, tensor):
        safetensors.numpy.save_file({"tensor": tensor}, self.path(key))

    def get_one(self, key, target):
        target[:] = safetensors.numpy.load_file(self.path(key))["tensor"]
        return target


def timed(work, total_bytes):
    cpu, start = cpu_seconds(), time.perf_counter()
    work()
    seconds, used = time.perf_counter() - start, cpu_seconds() - cpu
    return total_bytes / seconds / 1e9, used / (total_bytes / 1e9)


def batches(order, size):
    return [order[i : i + size] for i in range(0, len(order), size)]


def run(peer_type, directory, source, arguments, seed):
    total_bytes = arguments.tensors * arguments.bytes
    keys = [f"tensor{i}" for i in range(arguments.tensors)]
    targets = aligned(arguments.batch, arguments.bytes)
    order = list(range(arguments.tensors))
    random.Random(seed).shuffle(order)
    peer = peer_type(directory, total_bytes)
    try:

        def put():
            for part in batches(range(arguments.tensors), arguments.batch):
                peer.put([keys[i] for i in part], [source[i] for i in part])
            peer.flush()

        def get():
            for part in batches(order, arguments.batch):
                peer.get([keys[i] for i in part], targets[: len(part)])

        figures = {"put": timed(put, total_bytes)}
        peer.forget_pages()
        figures["get"] = timed(get, total_bytes)
        for part in batches(order, arguments.batch):
            for i, back in zip(part, peer.get([keys[i] for i in part], targets[: len(part)])):
                assert numpy.array_equal(back, source[i]), f"{peer.name}: {keys[i]} differs"
        figures["flipped"] = answer_to_a_flipped_byte(peer, keys[0], source[0], targets[0])
        return figures
    finally:
        peer.close()
        shutil.rmtree(directory)


def answer_to_a_flipped_byte(peer, key, tensor, target):
    """In the middle of the tensor, wherever it lies on the disk."""
    peer.forget_pages()
    for path in peer.files():
        with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
            begin = memory.find(tensor[:64].tobytes())
            if begin < 0:
                continue
            memory[begin + tensor.size // 2] ^= 1
            memory.flush()
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            break
    else:
        raise AssertionError(f"{peer.name}: {key} is nowhere on the disk")
    try:
        back = peer.get([key], [target])[0]
    except (cairn.CairnError, safetensors.SafetensorError, OSError) as error:
        return f"refused: {type(error).__name__}"
    return "**wrong bytes**" if not numpy.array_equal(back, tensor) else "the right bytes"


def print_table(results, arguments):
    gigabytes = arguments.tensors * arguments.bytes / 1e9
    print(
        f"{arguments.tensors} tensors of {arguments.bytes} bytes ({gigabytes:.2f} GB), batches of "
        f"{arguments.batch}, medians of {arguments.rounds} rounds\n"
    )
    print("| | put, GB/s | CPU s/GB | get, GB/s | CPU s/GB | after a flipped byte |")
    print("|---|---|---|---|---|---|")
    for name, rounds in results.items():
        cells = []
        for verb in ("put", "get"):
            cells += [f"{statistics.median(one[verb][i] for one in rounds):.2f}" for i in (0, 1)]
        answers = sorted({one["flipped"] for one in rounds})
        print(f"| {name} | {' | '.join(cells)} | {', '.join(answers)} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--directory", default=str(pathlib.Path(__file__).parents[2] / "build"))
    parser.add_argument("--tensors", type=int, default=512)
    parser.add_argument("--bytes", type=int, default=1 << 20)
    parser.add_argument("--batch", type=int, default=64)
    arguments = parser.parse_args()
    work = pathlib.Path(tempfile.mkdtemp(prefix="peers-", dir=arguments.directory))
    source = aligned(arguments.tensors, arguments.bytes)
    generator = numpy.random.default_rng(1)
    for tensor in source:
        tensor[:] = generator.integers(0, 256, tensor.size, numpy.uint8)
    peers = [Cairn, Safetensors, PlainFiles]
    results = {peer.name: [] for peer in peers}
    try:
        for number in range(arguments.rounds):
            for peer in peers[number % len(peers) :] + peers[: number % len(peers)]:
                results[peer.name].append(
                    run(peer, work / f"{peer.__name__}{number}", source, arguments, seed=number)
                )
    finally:
        shutil.rmtree(work)
    print_table(results, arguments)


if __name__ == "__main__":
    main()
