"""For the tests of the adapters: a host's package where it can be imported, else stand-ins of the
signatures that its adapter meets."""

import contextlib
import importlib
import sys

import numpy

OPTIONS = {"l2_bytes": 16 << 20, "l3_bytes": 64 << 20}


def import_adapter(adapter, needed, stand_ins):
    """(the adapter's module, whether it runs on the real package). Stand-ins are seen by nothing
    else: they are gone when the adapter has been imported."""
    with contextlib.suppress(ImportError):
        importlib.import_module(needed)
        return importlib.import_module(adapter), True
    before = {name: sys.modules.get(name) for name in stand_ins}
    sys.modules.update(stand_ins)
    try:
        return importlib.import_module(adapter), False
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def aligned(rows, row_bytes):
    memory = numpy.zeros(rows * row_bytes + 4096, numpy.uint8)
    begin = -memory.ctypes.data % 4096
    return memory[begin : begin + rows * row_bytes].reshape(rows, row_bytes)


def content(seed, shape):
    return numpy.random.default_rng(seed).integers(0, 256, shape, numpy.uint8)


def flip_byte(path, block):
    """Of the block's bytes on disk: what is found of them once."""
    needle = block.reshape(-1)[1024:1536].tobytes()
    for file in sorted(path.rglob("*")):
        if not file.is_file():
            continue
        with open(file, "r+b") as opened:
            data = opened.read()
            at = data.find(needle)
            if at >= 0:
                opened.seek(at)
                opened.write(bytes([data[at] ^ 1]))
                return
    raise AssertionError(f"the block is nowhere below {path}")
