"""The secondary tier as vLLM's scheduler drives it: a spec, a view of the CPU tier's memory, jobs.
On vLLM where it can be imported (it needs torch, but no GPU), else on stand-ins of its base class;
an engine is not run."""

import dataclasses
import enum
import inspect
import os
import time
import types
from importlib.metadata import entry_points

import numpy
import pytest
from hosts_shared import OPTIONS, aligned, content, flip_byte, import_adapter

import cairn
from cairn.hosts._vllm_plugin import register

ROW_BYTES = 1 << 20
ROWS = 24


def stand_ins():
    base, tiering = types.ModuleType("base"), types.ModuleType("tiering.base")
    base.LookupResult = enum.Enum("LookupResult", "MISS HIT HIT_PENDING RETRY")
    base.RequestOffloadingContext = type("RequestOffloadingContext", (), {})

    class SecondaryTierManager:
        def __init__(self, offloading_spec, primary_kv_view, tier_type):
            self.tier_type = tier_type

    # As in the releases that know least of it.
    tiering.JobResult = dataclasses.make_dataclass("JobResult", ["job_id", "success"])
    tiering.SecondaryTierManager = SecondaryTierManager
    folder = types.ModuleType("kv_offload")
    folder.base, folder.tiering = base, types.ModuleType("tiering")
    folder.tiering.base = tiering
    return {
        "vllm": types.ModuleType("vllm"),
        "vllm.v1": types.ModuleType("v1"),
        "vllm.v1.kv_offload": folder,
        "vllm.v1.kv_offload.base": base,
        "vllm.v1.kv_offload.tiering": folder.tiering,
        "vllm.v1.kv_offload.tiering.base": tiering,
    }


adapter, REAL = import_adapter(
    "cairn.hosts.vllm", "vllm.v1.kv_offload.tiering.factory", stand_ins()
)
HIT, MISS = adapter.offload.LookupResult.HIT, adapter.offload.LookupResult.MISS


def spec(dtype="bfloat16", tp_size=2):
    config = types.SimpleNamespace(
        model=types.SimpleNamespace(name="tiny/model", dtype=dtype),
        cache=types.SimpleNamespace(tokens_per_hash=16, blocks_per_chunk=4),
        groups=[types.SimpleNamespace(tokens_per_block=16, layer_names=("0", "1"))],
        parallel=types.SimpleNamespace(tp_size=tp_size, is_parallelism_agnostic=False),
    )
    return types.SimpleNamespace(config=config)


def old_spec():
    """As vLLM 0.25 hands it over."""
    return types.SimpleNamespace(
        vllm_config=types.SimpleNamespace(
            model_config=types.SimpleNamespace(model="tiny/model", dtype="bfloat16"),
            cache_config=types.SimpleNamespace(cache_dtype="auto", block_size=16),
            parallel_config=types.SimpleNamespace(
                tensor_parallel_size=1, pipeline_parallel_size=1
            ),
        )
    )


def key(number, group=0):
    return b"%032d" % number + group.to_bytes(4, "big")


class Engine:
    """The calls of a scheduler on one tier, and the CPU tier's memory."""

    def __init__(self, path, offloading_spec=None, **options):
        self.memory = aligned(ROWS, ROW_BYTES)
        arguments = {
            "offloading_spec": offloading_spec or spec(),
            "primary_kv_view": memoryview(self.memory.view(numpy.int8)),
        }
        options = {"path": str(path), **OPTIONS, **options}
        if REAL:
            from vllm.v1.kv_offload.tiering import factory

            config = {"type": "CairnTier", **options}
            if 'get("module_path")' in inspect.getsource(factory):
                config["module_path"] = "cairn.hosts.vllm"
            else:
                register()
            self.tier = factory.SecondaryTierFactory.create_secondary_tier(config, **arguments)
        else:
            self.tier = adapter.CairnTier(**arguments, tier_type="CairnTier", **options)
        self.jobs = 0

    def submit(self, method, keys, rows, rows_name="chunk_ids"):
        self.jobs += 1
        method(types.SimpleNamespace(
            job_id=self.jobs, keys=keys, **{rows_name: numpy.array(rows)}, req_context=None
        ))
        return self.jobs

    def finish(self, job):
        while True:
            for result in self.tier.get_finished_jobs():
                assert result.job_id == job
                return result
            time.sleep(0.001)

    def store(self, keys, rows):
        return self.finish(self.submit(self.tier.submit_store, keys, rows))

    def load(self, keys, rows):
        return self.finish(self.submit(self.tier.submit_load, keys, rows))

    def lookup(self, keys):
        return [self.tier.lookup(one, None) for one in keys]


@pytest.fixture
def engine(path):
    opened = Engine(path)
    yield opened
    opened.tier.shutdown()


def test_blocks_come_back(engine):
    keys = [key(i) for i in range(8)]
    engine.memory[:8] = content(1, (8, ROW_BYTES))
    assert engine.lookup(keys) == [MISS] * 8
    assert engine.store(keys, range(8)).success
    assert engine.lookup([*keys, key(0, group=1)]) == [HIT] * 8 + [MISS]
    result = engine.load(keys, range(15, 7, -1))
    assert result.success
    assert (engine.memory[15:7:-1] == engine.memory[:8]).all()
    # Straight between the rows and the disk, both ways.
    assert not any(info.in_l2 for _, info in engine.tier._opened.store.scan())
    if hasattr(result, "transfer_bytes"):
        assert result.transfer_bytes == 8 * ROW_BYTES and result.transfer_time > 0
    assert list(engine.tier.get_finished_jobs()) == []
    engine.tier.touch(keys, None)
    assert engine.tier.on_new_request(None) is not None


def test_several_jobs_at_once_and_the_names_of_older_releases(engine):
    engine.memory[:8] = content(2, (8, ROW_BYTES))
    jobs = {
        engine.submit(engine.tier.submit_store, [key(i)], [i], "block_ids") for i in range(8)
    }
    engine.tier.drain_jobs()
    results = list(engine.tier.get_finished())
    assert {one.job_id for one in results} == jobs and all(one.success for one in results)


def test_a_restart_keeps_the_hits_and_other_bytes_see_none(path):
    keys = [key(i) for i in range(4)]
    first = Engine(path)
    first.memory[:4] = content(3, (4, ROW_BYTES))
    assert first.store(keys, range(4)).success
    first.tier.shutdown()
    first.tier.shutdown()
    for other in (spec(dtype="float8_e4m3fn"), spec(tp_size=1), old_spec()):
        stranger = Engine(path, other)
        assert stranger.lookup(keys) == [MISS] * 4
        stranger.tier.shutdown()
    stranger = Engine(path, revision="other weights")
    assert stranger.lookup(keys) == [MISS] * 4
    stranger.tier.shutdown()
    again = Engine(path)
    assert again.lookup(keys) == [HIT] * 4
    assert again.load(keys, range(4)).success
    assert (again.memory[:4] == first.memory[:4]).all()
    again.tier.shutdown()


def test_a_flipped_byte_is_a_failed_load_and_then_a_miss(path):
    keys = [key(i) for i in range(3)]
    first = Engine(path)
    first.memory[:3] = content(4, (3, ROW_BYTES))
    assert first.store(keys, range(3)).success
    first.tier.shutdown()
    flip_byte(path, first.memory[1])
    again = Engine(path)
    assert again.lookup(keys) == [HIT] * 3
    result = again.load(keys, range(3))
    assert not result.success
    if hasattr(result, "successful_keys"):
        assert set(result.successful_keys) == {keys[0], keys[2]}
    assert (again.memory[[0, 2]] == first.memory[[0, 2]]).all()
    assert again.lookup(keys) == [HIT, MISS, HIT]
    again.memory[1] = first.memory[1]
    assert again.store(keys, range(3)).success  # As the host would, having computed it again.
    assert again.lookup(keys) == [HIT] * 3
    again.tier.shutdown()


def test_what_is_leased_stays_and_a_full_store_refuses(path):
    engine = Engine(path, lease_seconds=600)
    engine.memory[0] = content(5, ROW_BYTES)
    stored = []
    # Each block is a hit that was promised, so none makes room for the next: that is refused, or
    # leaves before it was promised.
    while engine.store([key(len(stored))], [0]).success:
        if engine.lookup([key(len(stored))]) != [HIT]:
            break
        stored.append(key(len(stored)))
        assert len(stored) < 64
    assert engine.lookup(stored) == [HIT] * len(stored)
    assert engine.load(stored[:1], [1]).success
    assert (engine.memory[1] == engine.memory[0]).all()
    # What has been loaded may go.
    assert engine.store([key(1000)], [0]).success
    engine.tier.shutdown()


def test_a_failed_load_of_what_was_never_there(engine):
    assert not engine.load([key(1)], [0]).success


def test_the_end_answers_what_waits(path):
    engine = Engine(path)
    jobs = {engine.submit(engine.tier.submit_store, [key(i)], [i]) for i in range(8)}
    engine.tier.shutdown()
    assert {one.job_id for one in engine.tier.get_finished_jobs()} == jobs
    assert Engine(path).tier.shutdown() is None


def test_a_write_budget_and_engines_side_by_side(path):
    engine = Engine(path, write_bytes_per_day=1)
    engine.memory[:2] = content(6, (2, ROW_BYTES))
    assert engine.store([key(0), key(1)], range(2)).success
    assert engine.load([key(0)], [5]).success
    assert (engine.memory[5] == engine.memory[0]).all()
    # In this process the same directory is the same store, whose options are what they are.
    with pytest.raises(cairn.FailedPreconditionError, match="its own path"):
        Engine(path)
    replica = spec()
    replica.config.parallel.data_parallel_size, replica.config.parallel.data_parallel_index = 2, 1
    other = Engine(path / "replicas", replica)
    assert (path / "replicas" / "dp1").is_dir()
    other.tier.shutdown()
    engine.tier.shutdown()


def test_a_forked_process_is_refused(engine):
    child = os.fork()
    if child == 0:
        refused = 0
        for call in (
            lambda: engine.tier.lookup(key(0), None),
            lambda: engine.submit(engine.tier.submit_store, [key(0)], [0]),
            engine.tier.shutdown,
        ):
            try:
                call()
            except cairn.ForkedError:
                refused += 1
        os._exit(refused)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3


def test_the_entry_point_of_releases_without_module_path():
    register()
    register()
    [entry] = entry_points(group="vllm.general_plugins", name="cairn")
    assert entry.load() is register


def test_a_spec_of_an_unknown_release_is_named(path):
    with pytest.raises(TypeError, match="neither"):
        Engine(path, types.SimpleNamespace(config=None))
