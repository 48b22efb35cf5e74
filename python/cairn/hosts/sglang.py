"""A storage backend for SGLang's HiCache: pages go between its host pools and NVMe without a copy.

    python -m sglang.launch_server --model-path MODEL --enable-hierarchical-cache
      --hicache-mem-layout page_first --hicache-storage-backend dynamic
      --hicache-storage-backend-extra-config '{"backend_name": "cairn", "module_path":
      "cairn.hosts.sglang", "class_name": "CairnHiCache", "interface_v1": 1, "path": "/nvme/kv",
      "l3_bytes": 500000000000}'

Read from SGLang 0.5.23.
"""

from __future__ import annotations

import ctypes
import dataclasses
import functools
import hashlib
import json
import logging
from typing import Any

import numpy

import cairn

from ._leases import Leases
from ._opened import fingerprint, open_store, short_key
from ._transfers import Job, Transfers

try:
    from sglang.srt.mem_cache import hicache_storage as hicache
except ImportError as error:
    raise ImportError(
        "cairn.hosts.sglang is loaded by SGLang (sglang.srt.mem_cache.hicache_storage): "
        f"install it in this environment ({error})"
    ) from error

_logger = logging.getLogger(__name__)
_STORE_OPTIONS = (
    "path",
    "l2_bytes",
    "l3_bytes",
    "write_bytes_per_day",
    "data_paths",
    "data_weights",
)
_KV = "kv"


class CairnHiCache(hicache.HiCacheStorage):
    """One for each rank: a store belongs to one process, so every rank has a folder of its own
    below `path`, and l2_bytes and l3_bytes are each rank's. Of models whose ranks share what one
    of them writes (MLA with more than one tensor parallel rank) it is refused.

    Beside the options of the store (_opened.open_store), extra_config may name `revision`, what
    tells apart weights of one model name, and `lease_seconds`. Calls come from several threads.
    """

    def __init__(self, storage_config: Any, kwargs: dict[str, Any] | None = None) -> None:
        extra = dict(getattr(storage_config, "extra_config", None) or {})
        if not extra.get("interface_v1"):
            raise ValueError(
                'cairn.hosts.sglang moves whole pages in place: set "interface_v1": 1 in '
                "--hicache-storage-backend-extra-config"
            )
        if "path" not in extra:
            raise ValueError('extra_config has no "path", the directory of the store')
        if storage_config.is_mla_model and storage_config.tp_size > 1:
            raise cairn.UnimplementedError(
                f"an MLA model with {storage_config.tp_size} tensor parallel ranks: one of them "
                "writes what all read, and a store belongs to one process"
            )
        facts, part = _facts(storage_config)
        facts["revision"] = str(extra.get("revision", ""))
        self._opened = open_store(
            fingerprint("sglang", facts["model"], facts),
            part=part,
            **{name: extra[name] for name in _STORE_OPTIONS if name in extra},
        )
        self._leases = Leases(self._opened.store, float(extra.get("lease_seconds", 10.0)))
        self._transfers = Transfers(
            self._opened, self._leases, lambda job: None, f"cairn-sglang-{part}"
        )
        self._pools: dict[str, tuple[Any, bytes]] = {}
        self._closed = False

    def register_mem_pool_host(self, mem_pool_host: Any) -> None:
        super().register_mem_pool_host(mem_pool_host)
        self._pools[_KV] = (mem_pool_host, _namespace(_KV, mem_pool_host))

    def register_mem_host_pool_v2(self, host_pool: Any, host_pool_name: Any) -> None:
        super().register_mem_host_pool_v2(host_pool, host_pool_name)
        # The KV pool's pages are the same by either interface.
        self._pools.setdefault(
            str(host_pool_name), (host_pool, _namespace(str(host_pool_name), host_pool))
        )

    def batch_exists(self, keys: list[str], extra_info: Any = None) -> int:
        if self._is_logical(_KV):
            return len(keys)
        return self._leases.count_leading(self._keys(_KV, keys))

    def batch_get_v1(
        self, keys: list[str], host_indices: Any, extra_info: Any = None
    ) -> list[bool]:
        return self._move(_KV, keys, host_indices, loads=True)

    def batch_set_v1(
        self, keys: list[str], host_indices: Any, extra_info: Any = None
    ) -> list[bool]:
        return self._move(_KV, keys, host_indices, loads=False)

    def batch_exists_v2(
        self, keys: list[str], pool_transfers: list[Any] | None = None, extra_info: Any = None
    ) -> Any:
        kv_pages = self.batch_exists(keys, extra_info)
        hits: dict[Any, int] = {hicache.PoolName.KV: kv_pages} if kv_pages else {}
        restorable = set(range(1, kv_pages + 1))
        for transfer in pool_transfers or []:
            if not restorable:
                break
            ends = self._restorable(transfer, keys[:kv_pages])
            if ends:
                hits[transfer.name] = max(ends)
            restorable &= ends
        result = [max(restorable, default=0), hits]
        fields = {field.name for field in dataclasses.fields(hicache.PoolTransferResult)}
        if "restorable_prefix_pages" in fields:
            result.append(sorted(restorable))
        return hicache.PoolTransferResult(*result)

    def batch_get_v2(self, transfers: list[Any], extra_info: Any = None) -> dict[Any, list[bool]]:
        return self._move_v2(transfers, loads=True)

    def batch_set_v2(self, transfers: list[Any], extra_info: Any = None) -> dict[Any, list[bool]]:
        return self._move_v2(transfers, loads=False)

    # The interface before v1, which HiCacheStorage asks for: one tensor under one key.

    def get(self, key: str, target_location: Any = None, target_sizes: Any = None) -> Any:
        if target_location is None:
            raise ValueError("get: name the tensor to load into as target_location")
        return self.batch_get([key], [target_location])[0]

    def batch_get(self, keys: list[str], target_locations: Any = None, target_sizes: Any = None):
        done = self._transfers.run(
            Job([_tensor_key(key) for key in keys], list(target_locations), loads=True)
        )
        return [target if one else None for target, one in zip(target_locations, done)]

    def set(
        self, key: str, value: Any = None, target_location: Any = None, target_sizes: Any = None
    ) -> bool:
        return self.batch_set([key], [value if value is not None else target_location])

    def batch_set(
        self,
        keys: list[str],
        values: Any = None,
        target_locations: Any = None,
        target_sizes: Any = None,
    ) -> bool:
        values = values if values is not None else target_locations
        return all(
            self._transfers.run(
                Job([_tensor_key(key) for key in keys], list(values), loads=False)
            )
        )

    def exists(self, key: str) -> bool:
        return self._leases.count_leading([_tensor_key(key)]) == 1

    def clear(self) -> bool:
        self._leases.end_all()
        self._opened.store.erase_prefix("")
        return True

    def get_stats(self) -> None:
        return None  # What SGLang would take is its own type; stats are in `store-inspect`.

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._transfers.close()
        self._opened.release()

    def _keys(self, pool: str, keys: list[str]) -> list[bytes]:
        if pool not in self._pools:
            raise cairn.FailedPreconditionError(f"no host pool {pool} has been registered")
        namespace = self._pools[pool][1]
        return [namespace + short_key(key) for key in keys]

    def _is_logical(self, pool: str) -> bool:
        """An anchor without pages of its own: its sidecars alone say what is there."""
        registered = self._pools.get(pool)
        return registered is not None and getattr(registered[0], "kv_buffer", True) is None

    def _restorable(self, transfer: Any, keys: list[str]) -> set[int]:
        """The lengths of prefix that the pool can serve."""
        stored = self._keys(str(transfer.name), keys)
        policy = str(getattr(transfer.hit_policy, "value", transfer.hit_policy))
        if policy == "all_pages":
            return set(range(1, self._leases.count_leading(stored) + 1))
        if policy == "trailing_pages":
            there = [self._leases.count_leading([key]) == 1 for key in stored]
            window = max(1, len(transfer.keys or []))
            return {
                end for end in range(1, len(keys) + 1) if all(there[max(0, end - window) : end])
            }
        raise cairn.UnimplementedError(f"pool {transfer.name} with hit policy {policy}")

    def _move_v2(self, transfers: list[Any], loads: bool) -> dict[Any, list[bool]]:
        return {
            transfer.name: self._move(
                str(transfer.name), list(transfer.keys or []), transfer.host_indices, loads
            )
            for transfer in transfers
        }

    def _move(self, pool: str, keys: list[str], host_indices: Any, loads: bool) -> list[bool]:
        """Must return a list: on an exception SGLang's thread would do without storage from then
        on."""
        if self._is_logical(pool):
            return [True] * len(keys)
        try:
            memory = _pages(self._pools[pool][0], len(keys), host_indices)
            return self._transfers.run(Job(self._keys(pool, keys), memory, loads=loads))
        except cairn.ForkedError:
            raise
        except Exception as error:
            _logger.error("pool %s: %d pages refused: %s", pool, len(keys), error)
            return [False] * len(keys)


def _pages(pool: Any, count: int, host_indices: Any) -> list[list[numpy.ndarray]]:
    """Each page as the list of its pieces in the pool's memory."""
    if host_indices is None:
        raise ValueError("no host_indices")
    pointers, sizes = pool.get_page_buffer_meta(host_indices)
    if count == 0 or len(pointers) % count or len(pointers) != len(sizes):
        raise ValueError(f"{len(pointers)} pieces for {count} pages")
    pieces = [_memory(pointer, size) for pointer, size in zip(pointers, sizes)]
    per_page = len(pieces) // count
    return [pieces[i : i + per_page] for i in range(0, len(pieces), per_page)]


@functools.lru_cache(maxsize=1024)
def _bytes_type(size: int) -> type[ctypes.Array]:
    return ctypes.c_ubyte * size


def _memory(pointer: int, size: int) -> numpy.ndarray:
    return numpy.frombuffer(_bytes_type(int(size)).from_address(int(pointer)), numpy.uint8)


def _tensor_key(key: str) -> bytes:
    return b"tensor/" + short_key(key)


# What a pool's pages look like: pools that differ in any of it share no key.
_POOL_FACTS = (
    "dtype", "layout", "page_size", "layer_num", "head_num", "head_dim", "v_head_dim",
    "start_layer", "end_layer", "size_per_token", "kv_lora_rank", "qk_rope_head_dim",
    "kv_cache_dim", "storage_format_tag", "dcp_size",
)  # fmt: skip


def _namespace(name: str, pool: Any) -> bytes:
    facts = [type(pool).__name__, *(str(getattr(pool, fact, None)) for fact in _POOL_FACTS)]
    return f"{name}/{hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]}/".encode()


def _facts(config: Any) -> tuple[dict[str, Any], str]:
    """What the bytes of this rank depend on, and its folder."""
    names = ("tp_rank", "tp_size", "pp_rank", "pp_size", "attn_cp_rank", "attn_cp_size")
    ranks = {name: int(getattr(config, name, 0 if "rank" in name else 1)) for name in names}
    facts: dict[str, Any] = {
        "model": str(config.model_name or ""),
        "mla": bool(config.is_mla_model),
        "tp_lcm_size": str(getattr(config, "tp_lcm_size", None)),
        "split_heads": bool(getattr(config, "should_split_heads", False)),
        **ranks,
    }
    # Replicas of one rank hold the same bytes, each in a folder of its own.
    replica = int(getattr(config, "dp_rank", 0))
    return facts, (
        f"tp{ranks['tp_rank']}of{ranks['tp_size']}-pp{ranks['pp_rank']}of{ranks['pp_size']}"
        f"-cp{ranks['attn_cp_rank']}of{ranks['attn_cp_size']}-dp{replica}"
    )
