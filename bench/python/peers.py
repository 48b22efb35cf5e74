"""What Python hosts keep tensors in, beside one another on the same disk: cairn, LMCache's files,
DeepSpeed's async_io, safetensors files, and plain files read and written by a pool of threads.

    build/python/env/bin/python bench/python/peers.py [--rounds 5] [--directory DIR]
        [--tensors 512] [--bytes 1048576] [--batch 64]

Needs the environment that `tools/python-test.sh` makes, and in it, or else they are left out by
name:

    build/python/env/bin/pip install --no-deps lmcache==0.5.6 deepspeed==0.19.8   # no CUDA
    build/python/env/bin/pip install hjson py-cpuinfo psutil msgpack einops ninja setuptools
    apt-get install libaio-dev    # DeepSpeed compiles async_io when it is first loaded

Each round writes every tensor once and flushes the device, lets go of the page cache, and reads
every tensor once in random order, whole batches at a time; who begins changes from round to round.
Every tensor that was read is compared. Prints the medians as a table in markdown: GB/s, seconds of
this process's CPU for a GB (all its threads), and what a read says after one byte on the disk was
flipped.
"""

import argparse
import concurrent.futures
import ctypes
import importlib.metadata
import mmap
import os
import pathlib
import random
import resource
import select
import shutil
import statistics
import tempfile
import time

import numpy

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


class Peer:
    def memory(self, tensors):
        """The tensors, where the peer likes them best."""
        return tensors


class Cairn(Peer):
    package = "cairn"
    name = "cairn {}: put_from, get_into"

    @staticmethod
    def load():
        """Raises what says why the peer cannot be had here."""

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


class Files(Peer):
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
    package = "numpy"
    name = f"plain files, {THREADS} threads"

    @staticmethod
    def load():
        pass

    def put_one(self, key, tensor):
        with open(self.path(key), "wb", buffering=0) as file:
            file.write(tensor)

    def get_one(self, key, target):
        with open(self.path(key), "rb", buffering=0) as file:
            file.readinto(target)
        return target


class Safetensors(Files):
    package = "safetensors"
    name = f"safetensors {{}} files, {THREADS} threads"

    @staticmethod
    def load():
        import safetensors.numpy

        Safetensors.module = safetensors.numpy

    def put_one(self, key, tensor):
        self.module.save_file({"tensor": tensor}, self.path(key))

    def get_one(self, key, target):
        target[:] = self.module.load_file(self.path(key))["tensor"]
        return target


class LmcacheFiles(Files):
    """The connector under LMCache's fs_native adapter: threads in C++, O_DIRECT."""

    package = "lmcache"
    name = f"LMCache {{}} fs_native, O_DIRECT, {THREADS} threads"

    @staticmethod
    def load():
        from lmcache.lmcache_fs import LMCacheFSClient

        LmcacheFiles.client_type = LMCacheFSClient

    def __init__(self, directory, total_bytes):
        super().__init__(directory, total_bytes)
        self.client = self.client_type(str(directory), THREADS, use_odirect=True)

    def put(self, keys, tensors):
        self.wait(self.client.submit_batch_set(keys, [memoryview(one) for one in tensors]))

    def get(self, keys, targets):
        self.wait(self.client.submit_batch_get(keys, [memoryview(one) for one in targets]))
        return targets

    def wait(self, number):
        ended = []
        while not ended:
            select.select([self.client.event_fd()], [], [])
            ended = self.client.drain_completions()
        [(future, ok, error, _)] = ended
        assert future == number
        if not ok:
            raise OSError(error)

    def close(self):
        self.client.close()
        super().close()


class DeepspeedFiles(Files):
    """The handle of DeepNVMe: libaio, O_DIRECT, a file in as many parts as there are threads."""

    package = "deepspeed"
    name = f"DeepSpeed {{}} async_io, O_DIRECT, {THREADS} threads"

    @staticmethod
    def load():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
        # What it builds for the CPU is not linked with the library that it calls.
        ctypes.CDLL("libaio.so.1", ctypes.RTLD_GLOBAL)
        import torch
        from deepspeed.ops.op_builder import AsyncIOBuilder

        DeepspeedFiles.to_torch = staticmethod(torch.from_numpy)
        DeepspeedFiles.handle_type = AsyncIOBuilder().load(verbose=False).aio_handle

    def __init__(self, directory, total_bytes):
        super().__init__(directory, total_bytes)
        self.handle = self.handle_type(256 << 10, 64, False, True, THREADS)
        self.locked = []

    def memory(self, tensors):
        # Locked by the handle: others are copied by it.
        mine = []
        for tensor in tensors:
            example = self.to_torch(tensor)
            self.locked.append(self.handle.new_cpu_locked_tensor(tensor.size, example))
            mine.append(self.locked[-1].copy_(example).numpy())
        return mine

    def put(self, keys, tensors):
        for key, tensor in zip(keys, tensors):
            self.handle.async_pwrite(self.to_torch(tensor), str(self.path(key)))
        assert self.handle.wait() == len(keys)

    def get(self, keys, targets):
        for key, target in zip(keys, targets):
            self.handle.async_pread(self.to_torch(target), str(self.path(key)))
        assert self.handle.wait() == len(keys)
        return targets

    def close(self):
        for tensor in self.locked:
            self.handle.free_cpu_locked_tensor(tensor)
        super().close()


PEERS = [Cairn, LmcacheFiles, DeepspeedFiles, Safetensors, PlainFiles]


def loaded_peers():
    """Those that can be had here, with their versions; and of the others why not."""
    there, absent = [], {}
    for peer in PEERS:
        try:
            version = importlib.metadata.version(peer.package)
            peer.load()
        except Exception as error:  # Whatever a package raises where it does not fit.
            absent[peer.name.format("").replace("  ", " ")] = f"{type(error).__name__}: {error}"
        else:
            peer.name = peer.name.format(version)
            there.append(peer)
    return there, absent


def timed(work, total_bytes):
    cpu, start = cpu_seconds(), time.perf_counter()
    work()
    seconds, used = time.perf_counter() - start, cpu_seconds() - cpu
    return total_bytes / seconds / 1e9, used / (total_bytes / 1e9)


def batches(order, size):
    return [order[i : i + size] for i in range(0, len(order), size)]


def run(peer_type, directory, source, arguments, seed):
    total_bytes = arguments.tensors * arguments.bytes
    # As LMCache wants them; the others take any.
    keys = [f"bench@00000000@0@{i:064x}" for i in range(arguments.tensors)]
    order = list(range(arguments.tensors))
    random.Random(seed).shuffle(order)
    peer = peer_type(directory, total_bytes)
    try:
        mine = peer.memory(source)
        targets = peer.memory(aligned(arguments.batch, arguments.bytes))

        def put():
            for part in batches(range(arguments.tensors), arguments.batch):
                peer.put([keys[i] for i in part], [mine[i] for i in part])
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
    except Exception as error:
        return f"refused: {type(error).__name__}"
    return "**wrong bytes**" if not numpy.array_equal(back, tensor) else "the right bytes"


def print_table(results, absent, arguments):
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
    for name, reason in absent.items():
        print(f"| {name} | not run: {reason} | | | | |")


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
    peers, absent = loaded_peers()
    results = {peer.name: [] for peer in peers}
    try:
        for number in range(arguments.rounds):
            for peer in peers[number % len(peers) :] + peers[: number % len(peers)]:
                results[peer.name].append(
                    run(peer, work / f"{peer.__name__}{number}", source, arguments, seed=number)
                )
    finally:
        shutil.rmtree(work)
    print_table(results, absent, arguments)


if __name__ == "__main__":
    main()
