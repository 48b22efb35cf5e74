"""Bad input raises what says what to do; nothing of it changes the store."""

import ctypes

import ml_dtypes
import numpy
import pytest

import cairn

GOOD = numpy.zeros((8, 8), numpy.float32)


class OnDevice:
    """A tensor on a device that no build has."""

    dtype = "float32"

    def __dlpack_device__(self):
        return (8, 0)

    def __dlpack__(self, **options):
        raise BufferError("not for the CPU")


class OnGpu:
    """As torch lends a tensor of CUDA memory, which is never looked at."""

    class Managed(ctypes.Structure):
        """DLManagedTensor, with the one dimension that it has."""

        _fields_ = [
            ("data", ctypes.c_void_p),
            ("device_type", ctypes.c_int32),
            ("device_id", ctypes.c_int32),
            ("ndim", ctypes.c_int32),
            ("code", ctypes.c_uint8),
            ("bits", ctypes.c_uint8),
            ("lanes", ctypes.c_uint16),
            ("shape", ctypes.POINTER(ctypes.c_int64)),
            ("strides", ctypes.c_void_p),
            ("byte_offset", ctypes.c_uint64),
            ("manager_ctx", ctypes.c_void_p),
            ("deleter", ctypes.c_void_p),
        ]

    def __init__(self):
        self.shape = (ctypes.c_int64 * 1)(64)
        float32 = {"code": 2, "bits": 32, "lanes": 1}
        self.managed = self.Managed(
            data=4096, device_type=2, device_id=0, ndim=1, shape=self.shape, **float32
        )

    def __dlpack_device__(self):
        return (2, 0)

    def __dlpack__(self, **options):
        new = ctypes.pythonapi.PyCapsule_New
        new.restype = ctypes.py_object
        new.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
        return new(ctypes.addressof(self.managed), b"dltensor", None)


def test_gpu_memory_in_a_store_without_a_gpu(store):
    tensor = OnGpu()
    for call in (
        lambda: store.put("k", tensor),
        lambda: store.put_from(["k"], [tensor]),
        lambda: store.get_into("k", tensor),
    ):
        with pytest.raises(cairn.InvalidArgumentError, match="device .* copy it to the CPU first"):
            call()


@pytest.mark.parametrize(
    "tensor, says",
    [
        (GOOD.astype("float64"), "float64 cannot be stored: use one of .*view"),
        (GOOD.astype(ml_dtypes.int4), "int4 cannot be stored"),
        (GOOD.astype("complex64"), "complex64 cannot be stored"),
        (GOOD[:, ::2], "not contiguous: pass numpy.ascontiguousarray"),
        (GOOD.astype(ml_dtypes.bfloat16).T[1:], "not contiguous: pass numpy.ascontiguousarray"),
        (numpy.zeros(0, "uint8"), "dimension 0 is 0"),
        (numpy.zeros((1,) * 9, "uint8"), "9 dimensions, at most 8 .*reshape"),
        (OnDevice(), "device .* copy it to the CPU"),
    ],
)
def test_tensors_that_cannot_be_put(store, tensor, says):
    store.put("k", b"old")
    with pytest.raises(cairn.InvalidArgumentError, match=says):
        store.put("k", tensor)
    with pytest.raises(cairn.CairnError, match=says):
        store.put_from("k", tensor)
    assert store.get("k").numpy().tobytes() == b"old"


@pytest.mark.parametrize("tensor", [5, "text", object(), None])
def test_what_is_no_tensor(store, tensor):
    with pytest.raises(TypeError, match="a tensor is a numpy array, a buffer, or has __dlpack__"):
        store.put("k", tensor)


@pytest.mark.parametrize(
    "key, kind, says",
    [
        ("x" * 256, cairn.InvalidArgumentError, "256 bytes, at most 255"),
        ("", cairn.InvalidArgumentError, "empty"),
        (5, TypeError, "a key is str or bytes, not int"),
        (None, TypeError, "a key is str or bytes, not NoneType"),
    ],
)
def test_keys(store, key, kind, says):
    target = GOOD.copy()
    for call in (
        lambda: store.put(key, GOOD),
        lambda: store.get(key),
        lambda: store.erase(key),
        lambda: store.describe(key),
        lambda: store.count_leading([key]),
        lambda: store.will_need(["good", key]),
        lambda: store.submit_get(cairn.CompletionQueue(4), [key, "other"]),
    ):
        with pytest.raises(kind, match=says):
            call()
    if kind is not TypeError:
        with pytest.raises(kind, match=says):
            store.get_into(key, target)


@pytest.mark.parametrize("seconds", [-1, -0.001, float("nan")])
def test_times(store, seconds):
    for call in (
        lambda: store.put("k", GOOD, timeout=seconds),
        lambda: store.put("k", GOOD, ttl=seconds),
        lambda: store.put("k", GOOD, recompute_cost=seconds),
        lambda: store.get("k", timeout=seconds),
        lambda: store.get_into("k", GOOD, timeout=seconds),
        lambda: store.count_leading(["k"], duration=seconds),
        lambda: store.will_need(["k"], due=seconds),
        lambda: cairn.CompletionQueue(4).wait(timeout=seconds),
    ):
        with pytest.raises(cairn.InvalidArgumentError, match="give 0 or more, or None"):
            call()


def test_memory_that_cannot_be_read_into(store):
    store.put("k", GOOD)
    read_only = GOOD.copy()
    read_only.flags.writeable = False
    for target, says in [
        (read_only, "read-only: pass one that can be written"),
        (bytes(GOOD.nbytes), "read-only: pass a bytearray"),
        (numpy.zeros((8, 16), "float32")[:, ::2], "not contiguous"),
        (numpy.zeros((8, 8), "int32"), r"fp32\[8,8\] .* int32: pass one of that dtype"),
        (numpy.zeros(5, "float32"), "256 bytes and the pieces take 20"),
    ]:
        with pytest.raises(cairn.InvalidArgumentError, match=says):
            store.get_into("k", target)
    store.get_into("k", numpy.zeros(256, "uint8"))


def test_lists_that_do_not_match(store):
    with pytest.raises(cairn.InvalidArgumentError, match="2 keys and 1 tensors"):
        store.put_from(["a", "b"], [GOOD])
    with pytest.raises(TypeError, match="give a list"):
        store.count_leading("a")
    with pytest.raises(TypeError, match="give a list"):
        store.will_need("a")


def test_a_closed_store(store, path, options):
    store.put("k", GOOD)
    store.close()
    store.close()
    assert not store.is_open
    for call in (
        lambda: store.put("k", GOOD),
        lambda: store.get("k"),
        lambda: store.get_into("k", GOOD),
        lambda: store.erase("k"),
        lambda: store.stats(),
        lambda: list(store.scan()),
        lambda: store.prefetch(["k"]),
        lambda: store.will_need(["k"]),
        lambda: store.cancel(1),
    ):
        with pytest.raises(cairn.FailedPreconditionError, match="is closed: open it again"):
            call()
    with cairn.Store(path, **options) as again:
        assert (again.get("k").numpy() == GOOD).all()


def test_opening(store, path, options, tmp_path):
    with pytest.raises(cairn.FailedPreconditionError, match="in use by this process"):
        cairn.Store(path, **options)
    with pytest.raises(cairn.InvalidArgumentError, match="l2_bytes_max is 5"):
        cairn.Store(tmp_path / "other", l2_bytes_max=5)
    with pytest.raises(TypeError, match="no option no_such_option"):
        cairn.Store(tmp_path / "other", no_such_option=1)
    with pytest.raises(TypeError, match="l3_bytes_max cannot be '1 GiB'"):
        cairn.Store(tmp_path / "other", l3_bytes_max="1 GiB")
    for shares in [{cairn.TensorClass.KV: (0.5, 0.25)}, {cairn.TensorClass.TEXT: (-1, 1)}]:
        with pytest.raises(cairn.InvalidArgumentError, match="l3_class_shares"):
            cairn.Store(tmp_path / "other", **{**options, "l3_class_shares": shares})
    with pytest.raises(TypeError, match="l2_class_shares cannot be"):
        cairn.Store(tmp_path / "other", l2_class_shares={"kv": (0, 1)})
    for seconds in (None, 3601):
        with pytest.raises(cairn.InvalidArgumentError, match="io_submission_polling is"):
            cairn.Store(tmp_path / "other", **{**options, "io_submission_polling": seconds})
    with pytest.raises(cairn.InvalidArgumentError, match="gpus has 1 twice"):
        cairn.Store(tmp_path / "other", **{**options, "gpus": [0, 1, 1]})
    with pytest.raises(cairn.UnavailableError, match="cannot create"):
        cairn.Store(tmp_path / "no" / "such", **options)
    with pytest.raises(cairn.UnavailableError, match="GPU 99 was asked for: .*kAuto takes host"):
        other = {**options, "device": cairn.DeviceKind.CUDA, "gpus": [99]}
        cairn.Store(tmp_path / "other", **other)


def test_the_hierarchy(store):
    with pytest.raises(KeyError, match="^no tensor none$"):
        store.get("none")
    for kind, base in [
        (cairn.NotFoundError, KeyError),
        (cairn.InvalidArgumentError, ValueError),
        (cairn.DeadlineExceededError, TimeoutError),
        (cairn.UnimplementedError, NotImplementedError),
        (cairn.ForkedError, cairn.FailedPreconditionError),
    ]:
        assert issubclass(kind, base) and issubclass(kind, cairn.CairnError)
