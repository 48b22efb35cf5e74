# What native/module.cc defines; its documentation is there. A test holds the two together.
from collections.abc import Sequence
import enum
from typing import Any, Self

import numpy

from .completion import Completion

class Durability(enum.Enum):
    STORE_DEFAULT = 0

    IN_MEMORY = 1

    ON_DEVICE = 2

    FLUSHED = 3

class Retention(enum.Enum):
    CACHE = 0

    KEEP = 1

class IfExists(enum.Enum):
    REPLACE = 0

    KEEP = 1

class TensorClass(enum.Enum):
    GENERAL = 0

    KV = 1

    VISION = 2

    TEXT = 3

class Level(enum.Enum):
    L1_GPU = 1

    L2_PINNED = 2

    L3_NVME = 3

class OtherFingerprint(enum.Enum):
    REFUSE = 0

    SHARE = 1

    PURGE = 2

class DeviceKind(enum.Enum):
    AUTO = 0

    CUDA = 1

    HOST = 2

class L1Memory(enum.Enum):
    DEVICE = 0

    MANAGED = 1

class IoEngineKind(enum.Enum):
    AUTO = 0

    URING = 1

    POSIX = 2

class WritePolicy(enum.Enum):
    WRITE_BACK = 0

    WRITE_THROUGH = 1

class AllocatorKind(enum.Enum):
    HYBRID = 0

    BUDDY = 1

    BEST_FIT = 2

class EvictionKind(enum.Enum):
    TUNED = 0

    LRU = 1

    CLOCK = 2

    ARC = 3

    S3_FIFO = 4

class TensorInfo:
    @property
    def dtype(self) -> numpy.dtype: ...

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def nbytes(self) -> int: ...

    @property
    def tensor_class(self) -> TensorClass: ...

    @property
    def retention(self) -> Retention: ...

    @property
    def in_l1(self) -> bool: ...

    @property
    def gpus(self) -> list[int]: ...

    @property
    def in_l2(self) -> bool: ...

    @property
    def in_l3(self) -> bool: ...

    @property
    def quarantined(self) -> bool: ...

    @property
    def expires(self) -> float | None: ...

    @property
    def arrival(self) -> float: ...

    def __repr__(self) -> str: ...

class PlacementAdvice:
    @property
    def level(self) -> Level | None: ...

    @property
    def reason(self) -> str: ...

    @property
    def arrival(self) -> float: ...

class LeadingHits:
    @property
    def count(self) -> int: ...

    @property
    def count_l1(self) -> int: ...

    @property
    def count_l2(self) -> int: ...

    @property
    def count_l3(self) -> int: ...

    @property
    def nbytes(self) -> int: ...

    @property
    def arrival(self) -> float: ...

    def release(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *args: object) -> None: ...

class TensorHandle:
    def numpy(self) -> numpy.ndarray: ...

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> numpy.ndarray: ...

    def __dlpack__(self, **options: Any) -> object: ...

    def __dlpack_device__(self) -> tuple[int, int]: ...

    def copy_to(self, target: object) -> None: ...

    def release(self) -> None: ...

    def release_after(self, stream: int, gpu: int = 0) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *args: object) -> None: ...

    def __repr__(self) -> str: ...

    @property
    def valid(self) -> bool: ...

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> numpy.dtype: ...

    @property
    def nbytes(self) -> int: ...

    @property
    def level(self) -> Level: ...

    @property
    def found_at(self) -> Level: ...

class CompletionQueue:
    def __init__(self, capacity: int = 4096) -> None: ...

    def fileno(self) -> int: ...

    def drain(self, count_max: int = 256) -> list[Completion]: ...

    def wait(self, timeout: float | None = None, count_max: int = 256) -> list[Completion]: ...

    @property
    def outstanding(self) -> int: ...

class Store:
    def __init__(
        self,
        path: str,
        *,
        data_paths: Sequence[str] = [],
        data_weights: Sequence[int] = [],
        fingerprint: str = '',
        other_fingerprint: OtherFingerprint = ...,
        device: DeviceKind = ...,
        l1_bytes_max: int = 0,
        l1_memory: L1Memory = ...,
        gpus: Sequence[int] = [0],
        l2_bytes_max: int = 1073741824,
        l2_allocator: AllocatorKind = ...,
        l2_numa_node: int = -1,
        heed_memory_pressure: bool = True,
        l2_bytes_min: int = 0,
        unusable_share_max: float = 0.3,
        move_bytes_per_second: int = 268435456,
        l3_bytes_max: int = 17179869184,
        l3_prewrite: bool = False,
        l3_index_bytes_max: int = 0,
        l3_write_bytes_per_day: int | None = 0,
        write_policy: WritePolicy = ...,
        l2_class_shares: dict[TensorClass, tuple[float, float]] = {},
        l3_class_shares: dict[TensorClass, tuple[float, float]] = {},
        l2_dirty_share_max: float = 0.5,
        eviction: EvictionKind = ...,
        io_engine: IoEngineKind = ...,
        io_bytes_in_flight_max: int = 8388608,
        io_threads: int = 4,
        io_submission_polling: float = 0.0,
        io_completion_polling: bool = False,
        data_file_bytes: int = 0,
        prefetch_queue_max: int = 4096,
        prefetch_ahead_bytes_max: int = 0,
        prefetch_predicted: bool = False,
        async_queue_max: int = 65536,
        stripe_count: int = 64,
        journal_records_max: int = 65536,
        close_timeout: float | None = 300.0,
    ) -> None: ...

    def put(
        self,
        key: str | bytes,
        tensor: object,
        *,
        durability: Durability = ...,
        retention: Retention = ...,
        if_exists: IfExists = ...,
        tensor_class: TensorClass = ...,
        partial_block: bool = False,
        recompute_cost: float | None = None,
        ttl: float | None = None,
        timeout: float | None = 30.0,
    ) -> None: ...

    def get(
        self,
        key: str | bytes,
        *,
        timeout: float | None = 30.0,
        want: Level = ...,
        gpu: int | None = None,
    ) -> TensorHandle: ...

    def put_from(
        self,
        keys: str | bytes | Sequence[str | bytes],
        tensors: object,
        *,
        durability: Durability = ...,
        retention: Retention = ...,
        if_exists: IfExists = ...,
        tensor_class: TensorClass = ...,
        partial_block: bool = False,
        recompute_cost: float | None = None,
        ttl: float | None = None,
        timeout: float | None = 30.0,
    ) -> None: ...

    def get_into(
        self,
        keys: str | bytes | Sequence[str | bytes],
        tensors: object,
        *,
        timeout: float | None = 30.0,
    ) -> None: ...

    def submit_get(
        self,
        queue: CompletionQueue,
        keys: Sequence[str | bytes],
        *,
        first_tag: int = 0,
        timeout: float | None = 30.0,
        want: Level = ...,
        gpu: int | None = None,
    ) -> None: ...

    def submit_put_from(
        self,
        queue: CompletionQueue,
        keys: str | bytes | Sequence[str | bytes],
        tensors: object,
        first_tag: int = 0,
        *,
        durability: Durability = ...,
        retention: Retention = ...,
        if_exists: IfExists = ...,
        tensor_class: TensorClass = ...,
        partial_block: bool = False,
        recompute_cost: float | None = None,
        ttl: float | None = None,
        timeout: float | None = 30.0,
    ) -> None: ...

    def submit_get_into(
        self,
        queue: CompletionQueue,
        keys: str | bytes | Sequence[str | bytes],
        tensors: object,
        first_tag: int = 0,
        *,
        timeout: float | None = 30.0,
    ) -> None: ...

    def count_leading(
        self,
        keys: Sequence[str | bytes],
        *,
        duration: float | None = 10.0,
    ) -> LeadingHits: ...

    def prefetch(
        self,
        keys: Sequence[str | bytes],
        *,
        to: Level = ...,
        gpu: int | None = None,
    ) -> int: ...

    def will_need(
        self,
        keys: Sequence[str | bytes],
        *,
        to: Level = ...,
        due: float | None = 0.0,
        priority: int = 0,
        gpu: int | None = None,
    ) -> int: ...

    def cancel(self, token: int) -> int: ...

    def evict(self, key: str | bytes, keep: Level) -> None: ...

    def erase(self, key: str | bytes) -> None: ...

    def erase_prefix(self, key_prefix: str | bytes) -> int: ...

    def purge_fingerprint(self, fingerprint: str) -> int: ...

    def flush(self) -> None: ...

    def describe(self, key: str | bytes) -> TensorInfo: ...

    def explain(self, key: str | bytes) -> list[dict[str, Any]]: ...

    def advise(self, nbytes: int, tensor_class: TensorClass = ...) -> PlacementAdvice: ...

    def _scan_page(
        self, key_prefix: str | bytes, after: str | bytes, limit: int
    ) -> tuple[list[tuple[bytes, TensorInfo]], bool]: ...

    def stats(self) -> dict[str, Any]: ...

    def forget_stream(self, stream: int, gpu: int = 0) -> None: ...

    def copy_kv_blocks(
        self,
        target: object,
        source: object,
        *,
        shape: tuple[int, int, int],
        target_pitch: tuple[int, int],
        source_pitch: tuple[int, int],
        stream: int = 0,
        gpu: int = 0,
    ) -> None: ...

    def register_memory(self, tensor: object) -> None: ...

    def unregister_memory(self, tensor: object) -> None: ...

    def close(self) -> None: ...

    @property
    def is_open(self) -> bool: ...
