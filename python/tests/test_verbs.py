"""Tensors go in and come out as they were, in every way in and out."""

import ml_dtypes
import numpy
import pytest

import cairn

DTYPES = [
    numpy.uint8,
    numpy.int8,
    numpy.bool_,
    numpy.int32,
    numpy.int64,
    numpy.float16,
    numpy.float32,
    ml_dtypes.bfloat16,
    ml_dtypes.float8_e4m3fn,
    ml_dtypes.float8_e5m2,
]


def content(seed, shape, dtype):
    random = numpy.random.default_rng(seed)
    return random.integers(0, 2, shape).astype(dtype)


def aligned(size):
    """Bytes at an address that is a multiple of 4096."""
    memory = numpy.zeros(size + 4096, numpy.uint8)
    begin = -memory.ctypes.data % 4096
    return memory[begin : begin + size]


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: numpy.dtype(dtype).name)
@pytest.mark.parametrize("shape", [(), (7,), (2, 3, 5)], ids=str)
def test_every_dtype_comes_back(store, path, options, dtype, shape):
    tensor = content(1, shape, dtype)
    store.put("put", tensor)
    store.put_from("put_from", tensor)
    store.close()
    with cairn.Store(path, **options) as again:
        for key in ("put", "put_from"):
            handle = again.get(key)
            assert handle.found_at == cairn.Level.L3_NVME
            array = handle.numpy()
            assert (array.dtype, array.shape) == (tensor.dtype, shape)
            assert (handle.dtype, handle.shape, handle.nbytes) == (
                tensor.dtype,
                shape,
                tensor.nbytes,
            )
            assert array.tobytes() == tensor.tobytes()
            target = numpy.zeros_like(tensor)
            again.get_into(key, target)
            assert target.tobytes() == tensor.tobytes()
            info = again.describe(key)
            assert (info.dtype, info.shape, info.nbytes) == (tensor.dtype, shape, tensor.nbytes)


def test_arrays_of_a_handle_copy_nothing_and_keep_the_bytes(store):
    tensor = content(2, (64, 64), numpy.float32)
    store.put("k", tensor)
    handle = store.get("k")
    first, second = handle.numpy(), numpy.asarray(handle)
    assert first.ctypes.data == second.ctypes.data
    assert numpy.from_dlpack(handle).ctypes.data == first.ctypes.data
    assert not first.flags.writeable
    del second
    handle.release()
    assert not handle.valid
    with pytest.raises(cairn.FailedPreconditionError, match="released"):
        handle.numpy()
    with pytest.raises(cairn.ResourceExhaustedError):
        store.evict("k", cairn.Level.L3_NVME)  # `first` pins it.
    store.close()
    assert (first == tensor).all()


def test_a_released_handle_can_be_evicted(store):
    store.put("k", content(3, 100, numpy.uint8))
    with store.get("k") as handle:
        target = bytearray(100)
        handle.copy_to(target)
    store.evict("k", cairn.Level.L3_NVME)
    assert not store.describe("k").in_l2
    assert bytes(target) == store.get("k").numpy().tobytes()


def test_batches_on_borrowed_memory(store):
    source = aligned(8 * 8192).reshape(8, 8192)
    source[:] = content(4, source.shape, numpy.uint8)
    keys = [f"block{i}" for i in range(8)]
    store.put_from(keys, list(source))
    target = aligned(source.nbytes).reshape(source.shape)
    store.get_into(keys, list(target))
    assert (target == source).all()
    # In pieces: two halves in the other order make another tensor.
    store.put_from("pieces", [source[0, 4096:], source[0, :4096]])
    store.get_into("pieces", [target[1, 4096:], target[1, :4096]])
    assert (target[1] == source[0]).all()


def test_a_batch_says_which_failed(store):
    source = content(5, (3, 4096), numpy.uint8)
    store.put_from(["a", "c"], [source[0], source[2]])
    target = numpy.zeros_like(source)
    with pytest.raises(cairn.BatchError, match="1 of 3 .* number 1: no tensor b") as caught:
        store.get_into(["a", "b", "c"], list(target))
    errors = caught.value.errors
    assert errors[0] is None and errors[2] is None
    assert isinstance(errors[1], cairn.NotFoundError)
    assert (target[[0, 2]] == source[[0, 2]]).all()
    with pytest.raises(cairn.NotFoundError):
        store.get_into("b", target[1])


def test_chains_scans_and_erasure(store):
    for key in ("a0", "a1", "a3", b"\xff\x00"):
        store.put(key, b"bytes")
    with store.count_leading(["a0", "a1", "a2", "a3"]) as hits:
        assert (hits.count, hits.count_l2, hits.nbytes) == (2, 2, 10)
    assert [key for key, _ in store.scan(page=1)] == [b"a0", b"a1", b"a3", b"\xff\x00"]
    assert [key for key, _ in store.scan("a")] == [b"a0", b"a1", b"a3"]
    store.erase("a0")
    store.erase("a0")
    assert store.erase_prefix("a") == 2
    assert store.purge_fingerprint("") == 1
    assert list(store.scan()) == []


def test_prefetch_flush_and_stats(store, path, options):
    store.put("k", b"bytes", durability=cairn.Durability.FLUSHED)
    store.flush()
    store.close()
    with cairn.Store(str(path), **options) as again:
        assert again.stats()["recovered_tensors"] == 1
        assert again.prefetch(["k", "none"]) == 1
        assert again.get("k").numpy().tobytes() == b"bytes"
        stats = again.stats()
        assert (stats["gets"], stats["misses"], stats["device"]) == (1, 0, "host")


def test_hints_are_loaded_ahead_counted_and_taken_back(path, options):
    tensors = [content(i, 1 << 20, numpy.uint8) for i in range(8)]
    keys = [f"k{i}" for i in range(8)]
    with cairn.Store(path, **options) as store:
        store.put_from(keys, tensors)
    with cairn.Store(path, **options, prefetch_ahead_bytes_max=2 << 20) as store:
        # Two are as far ahead as it goes: the others wait until these are asked for.
        token = store.will_need(keys[:4], to=cairn.Level.L2_PINNED)
        other = store.will_need(iter(keys[4:]), due=60, priority=-1)
        assert token != other
        assert store.stats()["prefetches_waiting"] == 6
        assert (store.get(keys[0]).numpy() == tensors[0]).all()
        assert (store.get(keys[1]).numpy() == tensors[1]).all()
        assert store.cancel(other) == 4
        assert store.cancel(other) == 0 and store.cancel(12345) == 0
        for i in (2, 3):
            assert (store.get(keys[i]).numpy() == tensors[i]).all()
        stats = store.stats()
        assert stats["prefetches_cancelled"] == 4
        # The gets of 2 and 3 may have been before their loads.
        assert 2 <= stats["prefetches_used"] + stats["prefetches_late"] <= 4
        store.will_need(["none", "k0"], due=None)
        store.will_need([])


def test_arrival_is_of_what_l3_alone_has(store):
    store.put("memory", bytes(1 << 20))
    store.put("disk", bytes(1 << 20))
    store.evict("disk", cairn.Level.L3_NVME)
    assert store.describe("memory").arrival == 0 == store.count_leading(["memory"]).arrival
    stats = store.stats()
    seconds = stats["l3_read_latency_us"] / 1e6 + (1 << 20) / stats["l3_read_bytes_per_second"]
    assert store.describe("disk").arrival == pytest.approx(seconds)
    assert store.count_leading(["memory", "disk"]).arrival == pytest.approx(seconds)


def test_advice_says_where_and_why(store):
    advice = store.advise(1 << 20, cairn.TensorClass.KV)
    assert advice.level == cairn.Level.L2_PINNED and advice.arrival == 0
    assert "L2 has room" in advice.reason
    nowhere = store.advise(1 << 40)
    assert nowhere.level is None and nowhere.arrival == float("inf")
    assert "a put refuses it" in nowhere.reason
    with pytest.raises(cairn.InvalidArgumentError, match="0 bytes"):
        store.advise(0)


def test_options_of_a_put(store):
    store.put("k", b"old")
    store.put("k", b"new", if_exists=cairn.IfExists.KEEP)
    assert store.get("k").numpy().tobytes() == b"old"
    store.put("k", b"new", ttl=1000, tensor_class=cairn.TensorClass.KV)
    decisions = [one["decision"] for one in store.explain("k")]
    assert "put" in decisions and decisions.count("replaced") == 1
    info = store.describe("k")
    assert info.tensor_class == cairn.TensorClass.KV and info.expires is not None
    store.put("k", b"new", ttl=None, timeout=None, retention=cairn.Retention.KEEP)
    assert store.describe("k").expires is None


def test_torch_borrows_and_lends(store):
    torch = pytest.importorskip("torch")
    for dtype in (torch.float32, torch.bfloat16, torch.float8_e4m3fn, torch.int8, torch.bool):
        tensor = torch.randint(0, 2, (16, 16)).to(dtype)
        store.put("t", tensor)
        handle = store.get("t")
        assert torch.equal(torch.from_dlpack(handle).view(torch.uint8), tensor.view(torch.uint8))
        target = torch.zeros_like(tensor)
        store.get_into("t", target)
        assert torch.equal(target.view(torch.uint8), tensor.view(torch.uint8))
    with pytest.raises(cairn.InvalidArgumentError, match="contiguous"):
        store.put("t", torch.zeros(4, 4).t())
    with pytest.raises(cairn.InvalidArgumentError, match="detach"):
        store.put("t", torch.zeros(4, requires_grad=True))
    with pytest.raises(cairn.InvalidArgumentError, match="meta"):
        store.put("t", torch.zeros(4, device="meta"))
    with pytest.raises(cairn.InvalidArgumentError, match="to_dense"):
        store.put("t", torch.eye(4).to_sparse())
    with pytest.raises(cairn.InvalidArgumentError, match="cannot be borrowed"):
        store.put("t", torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)]))
    # Their memory has the other sign.
    for negative in (torch.tensor([1 + 2j]).conj().imag, torch._neg_view(tensor)):
        with pytest.raises(cairn.InvalidArgumentError, match="resolve_neg"):
            store.put("t", negative)


def test_arrays_of_jax_are_never_written_to(store):
    class Array:
        def __init__(self):
            self.memory = numpy.zeros(4, numpy.float32)

        def __dlpack__(self, **options):
            return self.memory.__dlpack__(**options)

        def __dlpack_device__(self):
            return self.memory.__dlpack_device__()

    lent = Array()
    store.put("t", numpy.ones(4, numpy.float32))
    store.get_into("t", lent)
    assert lent.memory.sum() == 4
    Array.__module__ = "jaxlib._jax"
    lent.memory[:] = 2
    store.put("t", lent)
    store.put("u", numpy.ones(4, numpy.float32))
    with pytest.raises(cairn.InvalidArgumentError, match="jax"):
        store.get_into("u", lent)
    assert lent.memory.sum() == 8 and store.get("t").numpy().sum() == 8


@pytest.mark.parametrize("budget", [1, None])
def test_a_write_budget_keeps_tensors_off_the_ssd(path, options, budget):
    options["l3_write_bytes_per_day"] = budget
    tensor = numpy.ones(1 << 20, numpy.uint8)
    with cairn.Store(path, **options) as store:
        for i in range(4):
            store.put(f"plain/{i}", tensor, partial_block=i == 0)
        store.put("promised", tensor, durability=cairn.Durability.ON_DEVICE)
        assert store.get("plain/1").nbytes == tensor.nbytes
    with cairn.Store(path, **options) as again:
        found = [again.count_leading([f"plain/{i}"]).count for i in range(4)]
        if budget is None:
            assert found == [1, 1, 1, 1]
        else:
            # What is written ahead of a budget is one tensor at most, and no partial block.
            assert found[0] == 0 and sum(found) <= 1
        assert again.count_leading(["promised"]).count == 1


def test_each_gpu_has_an_l1(path, options):
    """Memory of the host stands in for both."""
    options = {**options, "device": cairn.DeviceKind.HOST, "l1_bytes_max": 4 << 20, "gpus": [2, 0]}
    tensor = content(5, (3, 5), numpy.int32)
    l1 = cairn.Level.L1_GPU
    with cairn.Store(path, **options) as store:
        store.put("k", tensor)
        for gpu, found_at in [(0, cairn.Level.L2_PINNED), (0, l1), (2, cairn.Level.L2_PINNED)]:
            with store.get("k", want=l1, gpu=gpu) as handle:
                assert (handle.level, handle.found_at) == (l1, found_at)
                assert (handle.numpy() == tensor).all()
        assert store.get("k", want=l1).found_at == l1  # Of the first, which is 2.
        assert store.describe("k").gpus == [0, 2]
        with pytest.raises(cairn.InvalidArgumentError, match="GPU 1 is none of the store's, 2, 0"):
            store.get("k", want=l1, gpu=1)
        store.evict("k", cairn.Level.L2_PINNED)
        assert store.describe("k").gpus == []
        assert store.prefetch(["k"], to=l1, gpu=0) == 1
        with pytest.raises(cairn.InvalidArgumentError, match="GPU 7"):
            store.will_need(["k"], to=l1, gpu=7)
        hits = {one["ordinal"]: one["l1"]["hits"] for one in store.stats()["gpus"]}
        assert hits == {2: 1, 0: 1}
