"""A secondary tier for vLLM's TieringOffloadingSpec: blocks that leave the CPU tier's reach stay on
NVMe, bounded, verified, and there after a restart.

    vllm serve MODEL --kv-transfer-config '{"kv_connector": "OffloadingConnector",
      "kv_role": "kv_both", "kv_connector_extra_config": {"spec_name": "TieringOffloadingSpec",
      "cpu_bytes_to_use": 17179869184, "secondary_tiers": [{"type": "CairnTier",
      "module_path": "cairn.hosts.vllm", "path": "/nvme/kv", "l3_bytes": 500000000000}]}}'

Read from vLLM 0.33.0; what older releases name otherwise is looked up where it is used.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections import deque
from collections.abc import Collection, Iterable
from typing import Any

import numpy

from ._leases import Leases
from ._opened import fingerprint, open_store, short_key
from ._transfers import Job, Transfers

try:
    from vllm.v1.kv_offload import base as offload
    from vllm.v1.kv_offload.tiering import base as tiering
except ImportError as error:
    raise ImportError(
        "cairn.hosts.vllm is loaded by vLLM 0.25 or newer (vllm.v1.kv_offload.tiering): "
        f"install it in this environment ({error})"
    ) from error


class CairnTier(tiering.SecondaryTierManager):
    """Every call answers at once: look-ups from the store's memory, transfers as jobs. A block that
    was said to be a HIT is leased until its load has ended, or for `lease_seconds`.

    Beside the options of the store (_opened.open_store): `revision`, what tells apart weights of
    one model name. Data parallel engines get a folder each below `path`.
    """

    medium = getattr(getattr(offload, "Medium", None), "STORAGE", None)

    def __init__(
        self,
        offloading_spec: Any,
        primary_kv_view: memoryview,
        tier_type: str,
        *,
        revision: str = "",
        lease_seconds: float = 10.0,
        locality: str | None = None,
        backpressure_detector: Any = None,
        **store_options: Any,
    ) -> None:
        arguments = (offloading_spec, primary_kv_view, tier_type)
        if "backpressure_detector" in inspect.signature(super().__init__).parameters:
            super().__init__(*arguments, backpressure_detector=backpressure_detector)
        else:
            super().__init__(*arguments)
        if locality is not None:
            self.locality = offload.Locality(locality)
        # Row b is block b: the shares of all ranks, which lie in one mapping.
        self._rows: Any = numpy.asarray(primary_kv_view)
        facts, replica = _facts(offloading_spec)
        facts.update(revision=revision, row=[self._rows[0].nbytes, str(self._rows.dtype)])
        self._rows = self._rows.view(numpy.uint8)
        self._opened = open_store(
            fingerprint("vllm", facts["model"], facts), part=replica, **store_options
        )
        self._leases = Leases(self._opened.store, lease_seconds)
        self._finished: deque[Job] = deque()
        self._transfers = Transfers(
            self._opened, self._leases, self._finished.append, f"cairn-{tier_type}"
        )

    def lookup(self, key: bytes, req_context: Any) -> Any:
        there = self._leases.count_leading([short_key(key)]) == 1
        return offload.LookupResult.HIT if there else offload.LookupResult.MISS

    def submit_store(self, job_metadata: Any) -> None:
        self._submit(job_metadata, loads=False)

    def submit_load(self, job_metadata: Any) -> None:
        self._submit(job_metadata, loads=True)

    def _submit(self, metadata: Any, loads: bool) -> None:
        # Releases before 0.33 say block_ids.
        rows = metadata.chunk_ids if hasattr(metadata, "chunk_ids") else metadata.block_ids
        keys = list(metadata.keys)
        self._transfers.submit(
            Job(
                keys=[short_key(key) for key in keys],
                memory=[self._rows[int(row)] for row in rows],
                loads=loads,
                tag=(metadata.job_id, keys),
            )
        )

    def get_finished_jobs(self) -> Iterable[Any]:
        results = []
        while self._finished:
            results.append(_result(self._finished.popleft()))
        return results

    get_finished = get_finished_jobs  # The name of older releases.

    def touch(self, keys: Collection[bytes], req_context: Any) -> None:
        # A look-up counts as use. Every block for itself: what is missing ends no chain here.
        for key in keys:
            self._opened.store.count_leading([short_key(key)], duration=0)

    def on_new_request(self, req_context: Any) -> Any:
        context = getattr(offload, "RequestOffloadingContext", None) or getattr(
            tiering, "RequestOffloadingContext", None
        )
        return context() if context is not None else None

    def drain_jobs(self) -> None:
        self._transfers.drain()

    def shutdown(self) -> None:
        if self._rows is None:
            return
        self._transfers.close()
        self._rows = None  # vLLM takes its view back.
        self._opened.release()


def _result(job: Job) -> Any:
    job_id, keys = job.tag
    done = job.done
    result = {
        "job_id": job_id,
        "success": all(done),
        "transfer_time": job.seconds,
        "transfer_bytes": job.nbytes,
    }
    if job.loads and not all(done) and any(done):
        result["successful_keys"] = tuple(key for key, one in zip(keys, done) if one)
    known = {field.name for field in dataclasses.fields(tiering.JobResult)}
    return tiering.JobResult(**{name: value for name, value in result.items() if name in known})


def _facts(spec: Any) -> tuple[dict[str, Any], str]:
    """What the bytes of a block depend on, and the folder of this engine among its replicas."""
    config = getattr(spec, "config", None)
    if hasattr(config, "parallel"):
        return _facts_of_config(config)
    if hasattr(spec, "vllm_config"):
        return _facts_of_vllm_config(spec)
    raise TypeError(
        f"cairn.hosts.vllm reads an OffloadingConfig (vLLM 0.26 or newer) or a VllmConfig (0.25) "
        f"from the spec; {type(spec).__name__} of this release has neither"
    )


def _facts_of_config(config: Any) -> tuple[dict[str, Any], str]:
    parallel = config.parallel
    facts = {
        "model": str(config.model.name),
        "dtype": str(config.model.dtype),
        "tokens_per_hash": int(config.cache.tokens_per_hash),
        "blocks_per_chunk": int(getattr(config.cache, "blocks_per_chunk", 1)),
        "groups": [
            [int(group.tokens_per_block), [str(name) for name in group.layer_names]]
            for group in config.groups
        ],
        "layout": str(getattr(config, "kv_cache_layout", None)),
        "canonical": bool(getattr(config, "canonical_layout", False)),
        "replicated": bool(getattr(config, "replicated_layout", False)),
    }
    if not getattr(parallel, "is_parallelism_agnostic", False):
        facts["parallel"] = [
            int(getattr(parallel, f"{kind}_size", 1)) for kind in ("tp", "pp", "pcp", "dcp")
        ]
    replicas = int(getattr(parallel, "data_parallel_size", 1))
    replica = int(getattr(parallel, "data_parallel_index", 0))
    return facts, f"dp{replica}" if replicas > 1 else ""


def _facts_of_vllm_config(spec: Any) -> tuple[dict[str, Any], str]:
    model, cache = spec.vllm_config.model_config, spec.vllm_config.cache_config
    parallel = spec.vllm_config.parallel_config
    facts = {
        "model": str(model.model),
        "dtype": [str(model.dtype), str(getattr(cache, "cache_dtype", "auto"))],
        "tokens": str(getattr(cache, "block_size", None)),
        "chunk": str(getattr(spec, "block_size_factor", 1)),
        "parallel": [
            int(parallel.tensor_parallel_size),
            int(parallel.pipeline_parallel_size),
            int(getattr(parallel, "prefill_context_parallel_size", 1)),
            int(getattr(parallel, "decode_context_parallel_size", 1)),
        ],
    }
    replicas = int(getattr(parallel, "data_parallel_size", 1))
    replica = int(getattr(parallel, "data_parallel_rank", 0))
    return facts, f"dp{replica}" if replicas > 1 else ""
