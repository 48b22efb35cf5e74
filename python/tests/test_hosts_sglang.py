"""The HiCache backend as SGLang's controller drives it: a config, fake host pools, batches of
pages. On SGLang where it can be imported (it needs torch, but no GPU), else on stand-ins of its
base class; a server is not run."""

import dataclasses
import enum
import os
import threading
import types

import numpy
import pytest
from hosts_shared import OPTIONS, aligned, content, flip_byte, import_adapter

import cairn

PAGE = 16
PAGE_BYTES = 256 << 10


def stand_ins():
    module = types.ModuleType("hicache_storage")

    class HiCacheStorage:
        def register_mem_pool_host(self, mem_pool_host):
            self.mem_pool_host = mem_pool_host

        def register_mem_host_pool_v2(self, host_pool, host_pool_name):
            self.registered_pools = {**getattr(self, "registered_pools", {})}
            self.registered_pools[host_pool_name] = host_pool

    class PoolName(str, enum.Enum):
        KV = "kv"
        MAMBA = "mamba"
        INDEXER = "indexer"

        def __str__(self):
            return self.value

    class PoolHitPolicy(str, enum.Enum):
        ALL_PAGES = "all_pages"
        TRAILING_PAGES = "trailing_pages"
        BLOCK_GROUPS = "block_groups"

    # As in the releases that know least of it.
    module.PoolTransferResult = dataclasses.make_dataclass(
        "PoolTransferResult", ["kv_hit_pages", "extra_pool_hit_pages"]
    )
    module.HiCacheStorage, module.PoolName, module.PoolHitPolicy = (
        HiCacheStorage,
        PoolName,
        PoolHitPolicy,
    )
    mem_cache = types.ModuleType("mem_cache")
    mem_cache.hicache_storage = module
    return {
        "sglang": types.ModuleType("sglang"),
        "sglang.srt": types.ModuleType("srt"),
        "sglang.srt.mem_cache": mem_cache,
        "sglang.srt.mem_cache.hicache_storage": module,
    }


adapter, REAL = import_adapter(
    "cairn.hosts.sglang", "sglang.srt.mem_cache.storage.backend_factory", stand_ins()
)
KV, MAMBA, INDEXER = (
    getattr(adapter.hicache.PoolName, name) for name in ("KV", "MAMBA", "INDEXER")
)


class FakePool:
    """A page-first pool: K and V of a page are one piece each."""

    layout = "page_first"
    dtype = "bfloat16"

    def __init__(self, pages, page_size=PAGE, piece_bytes=PAGE_BYTES // 2):
        self.page_size = page_size
        self.piece_bytes = piece_bytes
        self.kv_buffer = aligned(2 * pages, piece_bytes).reshape(2, pages, piece_bytes)

    def get_page_buffer_meta(self, indices):
        pointers = [
            self.kv_buffer[half, int(index) // self.page_size].ctypes.data
            for index in indices[:: self.page_size]
            for half in range(2)
        ]
        return pointers, [self.piece_bytes] * len(pointers)

    def indices(self, pages):
        tokens = [page * self.page_size + i for page in pages for i in range(self.page_size)]
        if REAL:
            import torch

            return torch.tensor(tokens)
        return numpy.array(tokens)


def config(path, **changes):
    extra = {
        "backend_name": "cairn",
        "module_path": "cairn.hosts.sglang",
        "class_name": "CairnHiCache",
        "interface_v1": 1,
        "path": str(path),
        **OPTIONS,
        **changes.pop("extra", {}),
    }
    fields = {
        "tp_rank": 0, "tp_size": 1, "pp_rank": 0, "pp_size": 1, "attn_cp_rank": 0,
        "attn_cp_size": 1, "is_mla_model": False, "enable_storage_metrics": False,
        "is_page_first_layout": True, "model_name": "tiny/model", "extra_config": extra, **changes,
    }  # fmt: skip
    if REAL:
        return adapter.hicache.HiCacheStorageConfig(**fields)
    return types.SimpleNamespace(**fields)


def attach(path, pool, **changes):
    if REAL:
        from sglang.srt.mem_cache.storage.backend_factory import StorageBackendFactory

        backend = StorageBackendFactory.create_backend("dynamic", config(path, **changes), pool)
    else:
        backend = adapter.CairnHiCache(config(path, **changes), {})
    backend.register_mem_pool_host(pool)
    return backend


def transfer(name, pool, keys, pages, policy="ALL_PAGES"):
    return types.SimpleNamespace(
        name=name,
        keys=keys,
        host_indices=pool.indices(pages),
        hit_policy=getattr(adapter.hicache.PoolHitPolicy, policy),
    )


@pytest.fixture
def pool():
    made = FakePool(64)
    made.kv_buffer[:] = content(1, made.kv_buffer.shape)
    return made


@pytest.fixture
def backend(path, pool):
    attached = attach(path, pool)
    yield attached
    attached.close()


def hashes(count, first=0):
    return [f"{i:064x}" for i in range(first, first + count)]


def test_pages_come_back(backend, pool):
    keys = hashes(16)
    expected = pool.kv_buffer.copy()
    assert backend.batch_exists(keys) == 0
    assert backend.batch_set_v1(keys, pool.indices(range(16))) == [True] * 16
    assert backend.batch_exists([*keys, "none"]) == 16
    assert backend.batch_exists([*keys[:3], "none", *keys[3:]]) == 3
    assert backend.batch_get_v1(keys, pool.indices(range(32, 48))) == [True] * 16
    assert (pool.kv_buffer[:, 32:48] == expected[:, :16]).all()
    assert (pool.kv_buffer[:, :32] == expected[:, :32]).all()
    # Straight between the pages and the disk, both ways.
    assert not any(info.in_l2 for _, info in backend._opened.store.scan())
    assert backend.batch_set_v1(keys, pool.indices(range(16))) == [True] * 16
    assert backend.batch_get_v1(["none"], pool.indices([0])) == [False]
    assert backend.batch_get_v1(keys, pool.indices([0])) == [False] * 16  # Indices of one page.
    assert backend.clear() and backend.batch_exists(keys) == 0


def test_single_tensors(backend):
    source, target = content(2, 4096), numpy.zeros(4096, numpy.uint8)
    assert backend.set("a", source) and backend.exists("a") and not backend.exists("b")
    assert (backend.get("a", target) == source).all()
    assert backend.get("b", target) is None
    with pytest.raises(ValueError, match="target_location"):
        backend.get("a")


def test_threads_share_a_backend(backend, pool):
    def work(first):
        keys, pages = hashes(8, first), pool.indices(range(first, first + 8))
        done.append(backend.batch_set_v1(keys, pages) + backend.batch_get_v1(keys, pages))

    done, before = [], pool.kv_buffer.copy()
    threads = [threading.Thread(target=work, args=(8 * i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert done == [[True] * 16] * 8 and (pool.kv_buffer == before).all()


def test_a_restart_keeps_the_hits_and_other_bytes_see_none(path, pool):
    keys = hashes(4)
    first = attach(path, pool)
    assert all(first.batch_set_v1(keys, pool.indices(range(4))))
    first.close()
    first.close()
    other_pool = FakePool(4, page_size=2 * PAGE)
    for changes in (
        {"model_name": "other/model"},
        {"extra": {"revision": "2"}},
        {"tp_rank": 1, "tp_size": 2},
    ):
        stranger = attach(path, pool, **changes)
        assert stranger.batch_exists(keys) == 0
        stranger.close()
    stranger = attach(path, other_pool)
    assert stranger.batch_exists(keys) == 0
    stranger.close()
    expected = pool.kv_buffer[:, :4].copy()
    pool.kv_buffer[:] = 0
    again = attach(path, pool)
    assert again.batch_exists(keys) == 4
    assert again.batch_get_v1(keys, pool.indices(range(4))) == [True] * 4
    assert (pool.kv_buffer[:, :4] == expected).all()
    again.close()


def test_a_flipped_byte_is_a_failed_load_and_then_a_miss(path, pool):
    keys = hashes(3)
    first = attach(path, pool)
    assert all(first.batch_set_v1(keys, pool.indices(range(3))))
    first.close()
    flip_byte(path, pool.kv_buffer[0, 1])
    again = attach(path, pool)
    assert again.batch_exists(keys) == 3
    assert again.batch_get_v1(keys, pool.indices(range(3))) == [True, False, True]
    assert again.batch_exists(keys) == 1
    again.close()


def test_what_is_leased_stays_and_a_full_store_refuses(path, pool):
    backend = attach(path, pool, extra={"lease_seconds": 600})
    stored = []
    # Each page is a hit that was promised, so none makes room for the next: that is refused, or
    # leaves before it was promised.
    while all(backend.batch_set_v1(hashes(1, len(stored)), pool.indices([1]))):
        if backend.batch_exists(hashes(1, len(stored))) == 0:
            break
        stored += hashes(1, len(stored))
        assert len(stored) < 256
    assert backend.batch_exists(stored) == len(stored) > 0
    assert backend.batch_get_v1(stored[:1], pool.indices([0])) == [True]
    backend.close()


def test_pools_of_a_hybrid_model(backend, pool):
    mamba, indexer = FakePool(8, page_size=1, piece_bytes=24 << 10), FakePool(8, piece_bytes=1000)
    for side in (mamba, indexer):
        side.kv_buffer[:] = content(3, side.kv_buffer.shape)
    backend.register_mem_host_pool_v2(mamba, MAMBA)
    backend.register_mem_host_pool_v2(indexer, INDEXER)
    keys = hashes(6)
    assert all(backend.batch_set_v1(keys, pool.indices(range(6))))
    written = backend.batch_set_v2([
        transfer(MAMBA, mamba, [keys[1], keys[4]], [0, 1]),
        transfer(INDEXER, indexer, keys[:5], range(5)),
    ])
    assert written == {MAMBA: [True] * 2, INDEXER: [True] * 5}
    asked = [
        transfer(INDEXER, indexer, keys, range(6)),
        transfer(MAMBA, mamba, keys[-1:], [0], "TRAILING_PAGES"),
    ]
    result = backend.batch_exists_v2(keys, asked)
    assert result.kv_hit_pages == 5  # Up to the state of the fifth page.
    assert result.extra_pool_hit_pages == {KV: 6, INDEXER: 5, MAMBA: 5}
    if REAL:
        assert result.restorable_prefix_pages == [2, 5]
    assert backend.batch_exists_v2(["none", *keys], asked).kv_hit_pages == 0
    read = backend.batch_get_v2([
        transfer(MAMBA, mamba, [keys[4]], [7]),
        transfer(INDEXER, indexer, [keys[0], keys[5]], [6, 7]),
    ])
    assert read == {MAMBA: [True], INDEXER: [True, False]}
    assert (mamba.kv_buffer[:, 7] == mamba.kv_buffer[:, 1]).all()
    assert (indexer.kv_buffer[:, 6] == indexer.kv_buffer[:, 0]).all()
    unknown = transfer(INDEXER, indexer, keys, range(6), "BLOCK_GROUPS")
    with pytest.raises(cairn.UnimplementedError, match="block_groups"):
        backend.batch_exists_v2(keys, [unknown])
    assert backend.batch_get_v2([transfer("unknown", indexer, keys[:1], [0])]) == {
        "unknown": [False]
    }


def test_what_it_cannot_do_is_said(path, pool):
    with pytest.raises(ValueError, match="interface_v1"):
        attach(path, pool, extra={"interface_v1": 0})
    with pytest.raises(cairn.UnimplementedError, match="MLA"):
        attach(path, pool, is_mla_model=True, tp_size=2)
    adapter.CairnHiCache(config(path, is_mla_model=True), {}).close()


def test_a_forked_process_is_refused(backend, pool):
    child = os.fork()
    if child == 0:
        refused = 0
        for call in (
            lambda: backend.batch_exists(hashes(1)),
            lambda: backend.batch_set_v1(hashes(1), pool.indices([0])),
            backend.close,
        ):
            try:
                call()
            except cairn.ForkedError:
                refused += 1
        os._exit(refused)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
