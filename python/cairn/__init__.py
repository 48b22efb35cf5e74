"""A tensor store over GPU memory (L1), pinned host memory (L2) and NVMe (L3), for model hosts.

    import cairn, numpy

    with cairn.Store("/nvme/kv", fingerprint="qwen3-8b bf16") as store:
        store.put("chain/3f2a", numpy.ones((2, 16, 128), "float16"))
        block = store.get("chain/3f2a").numpy()

The verbs and their promises are those of include/cairn/store.h. A store belongs to the process that
opened it: one forked from that gets ForkedError (multiprocessing: use "spawn").
"""

from ._cairn import (
    AllocatorKind,
    CompletionQueue,
    DeviceKind,
    Durability,
    EvictionKind,
    IfExists,
    IoEngineKind,
    L1Memory,
    LeadingHits,
    Level,
    OtherFingerprint,
    PlacementAdvice,
    Retention,
    TensorClass,
    TensorHandle,
    TensorInfo,
    WritePolicy,
)
from .completion import Completion
from .errors import (
    BatchError,
    CairnError,
    DataLossError,
    DeadlineExceededError,
    FailedPreconditionError,
    ForkedError,
    InvalidArgumentError,
    NotFoundError,
    ResourceExhaustedError,
    UnavailableError,
    UnimplementedError,
)
from .store import Store

_MODULES = ("completion", "errors", "store")
__all__ = [name for name in dir() if not name.startswith("_") and name not in _MODULES]
