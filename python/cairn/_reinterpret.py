"""Types that neither the buffer protocol nor numpy's DLPack carries: seen as bits of their size."""

import functools

import numpy

from .errors import InvalidArgumentError

# By the values of DType in include/cairn/tensor.h.
_NUMPY_NAMES = {
    1: "uint8",
    2: "int8",
    3: "uint8",  # int4: its packed bytes.
    4: "bool",
    5: "int32",
    6: "int64",
    7: "float16",
    8: "bfloat16",
    9: "float32",
    10: "float8_e4m3fn",
    11: "float8_e5m2",
}
_VALUES = {name: value for value, name in _NUMPY_NAMES.items() if value != 3}
# Those of torch's types that its DLPack does not carry everywhere.
_TORCH_BITS = {
    "bool": "uint8",
    "bfloat16": "int16",
    "float8_e4m3fn": "uint8",
    "float8_e5m2": "uint8",
}


@functools.cache
def numpy_dtype(value):
    name = _NUMPY_NAMES[value]
    if value in (8, 10, 11):
        import ml_dtypes

        return numpy.dtype(getattr(ml_dtypes, name))
    return numpy.dtype(name)


def as_bytes(tensor, writable):
    """(the same memory as unsigned integers, the value of its DType), or raises what is wrong."""
    dtype = getattr(tensor, "dtype", None)
    if dtype is None:
        _refuse_buffer(tensor, writable)
        raise TypeError(
            f"a tensor is a numpy array, a buffer, or has __dlpack__; not {type(tensor).__name__}"
        )
    _refuse_other_devices(tensor)
    name = str(dtype).removeprefix("torch.")
    if name not in _VALUES:
        raise InvalidArgumentError(
            f"a tensor of {name} cannot be stored: use one of {', '.join(sorted(_VALUES))}, "
            "or store its bytes as x.view('uint8')"
        )
    if writable and isinstance(tensor, numpy.ndarray) and not tensor.flags.writeable:
        raise InvalidArgumentError("the array is read-only: pass one that can be written")
    if isinstance(tensor, numpy.ndarray):
        if not tensor.flags.c_contiguous:
            raise InvalidArgumentError(
                "the tensor is not contiguous: pass numpy.ascontiguousarray(x)"
            )
        return tensor.view(f"uint{8 * dtype.itemsize}"), _VALUES[name]
    layout = str(getattr(tensor, "layout", "torch.strided"))
    if layout != "torch.strided":
        raise InvalidArgumentError(f"the tensor's layout is {layout}: pass x.to_dense()")
    if name in _TORCH_BITS and str(dtype).startswith("torch."):
        import torch

        return tensor.view(getattr(torch, _TORCH_BITS[name])), _VALUES[name]
    raise InvalidArgumentError(
        f"the memory of a {type(tensor).__name__} of {name} cannot be borrowed: "
        "pass numpy.asarray(x)"
    )


def _refuse_buffer(tensor, writable):
    try:
        view = memoryview(tensor)
    except TypeError:
        return
    if writable and view.readonly:
        raise InvalidArgumentError("the buffer is read-only: pass a bytearray or an array")
    raise InvalidArgumentError(
        f"a buffer of format {view.format!r} cannot be stored: pass memoryview(x).cast('B')"
    )


def _refuse_other_devices(tensor):
    # DLPack's numbers: 1 the CPU, 2 CUDA, 3 memory pinned for it, 13 managed by it.
    try:
        device = tensor.__dlpack_device__()[0] if hasattr(tensor, "__dlpack_device__") else 1
    except Exception:  # As torch's for the device "meta".
        device = None
    if device not in (1, 2, 3, 13):
        where = getattr(tensor, "device", f"DLPack type {device}")
        raise InvalidArgumentError(
            f"the tensor is on device {where}, which this store has not: copy it to the CPU first"
        )
