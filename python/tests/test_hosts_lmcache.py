"""The object of LMCache's native_plugin protocol, driven by its eventfd, which needs no LMCache;
and under LMCache's own adapter where that can be imported. Its server is not run."""

import os
import select
import subprocess
import sys
import types

import numpy
import pytest
from hosts_shared import OPTIONS, aligned, content, flip_byte

import cairn
from cairn.hosts.lmcache import CairnConnector

CHUNK_BYTES = 1 << 20


class Host:
    """Waits for the ends of what it submits, as LMCache's thread does."""

    def __init__(self, path, **options):
        self.connector = CairnConnector(path=str(path), **OPTIONS, **options)
        self.ended = {}

    def end(self, number):
        while number not in self.ended:
            assert select.select([self.connector.event_fd()], [], [], 30)[0]
            for one, ok, error, done in self.connector.drain_completions():
                assert ok == (error == "")
                self.ended[one] = (ok, done)
        return self.ended.pop(number)

    def set(self, keys, chunks):
        views = [memoryview(chunk) for chunk in chunks]
        return self.end(self.connector.submit_batch_set(keys, views))

    def get(self, keys, chunks):
        views = [memoryview(chunk) for chunk in chunks]
        return self.end(self.connector.submit_batch_get(keys, views))

    def exists(self, keys):
        return self.end(self.connector.submit_batch_exists(keys))[1]

    def delete(self, keys):
        return self.end(self.connector.submit_batch_delete(keys))


@pytest.fixture
def host(path):
    opened = Host(path)
    yield opened
    opened.connector.close()


def names(count, first=0):
    return [f"tiny/model@00000001@0@{i:064x}" for i in range(first, first + count)]


def chunks(seed, count):
    memory = aligned(count, CHUNK_BYTES)
    memory[:] = content(seed, memory.shape)
    return memory


def test_chunks_come_back(host):
    keys, source = names(8), chunks(1, 8)
    assert host.exists(keys) == [False] * 8
    assert host.set(keys, source) == (True, [True] * 8)
    assert host.exists([keys[0], "none", keys[7]]) == [True, False, True]
    target = numpy.zeros_like(source)
    assert host.get(keys, target) == (True, [True] * 8)
    assert (target == source).all()
    assert host.get([keys[0], "none"], target) == (False, [True, False])
    assert host.delete([*keys[:2], "none"]) == (True, [True] * 3)
    assert host.exists(keys) == [False] * 2 + [True] * 6
    assert host.end(host.connector.submit_batch_get([], [])) == (True, [])
    assert host.connector.drain_completions() == []


def test_many_submits_end_each_for_itself(host):
    keys, source = names(24), chunks(2, 24)
    numbers = [
        host.connector.submit_batch_set([key], [memoryview(one)])
        for key, one in zip(keys, source)
    ]
    assert len(set(numbers)) == 24
    assert [host.end(number) for number in reversed(numbers)] == [(True, [True])] * 24


def test_more_jobs_than_may_wait_are_refused(host, monkeypatch):
    monkeypatch.setattr("cairn.hosts._transfers._JOBS_WAITING_MAX", 0)
    assert host.set(names(2), chunks(9, 2)) == (False, [False] * 2)
    monkeypatch.undo()
    assert host.exists(names(2)) == [False] * 2
    assert host.set(names(2), chunks(9, 1)) == (False, [False] * 2)  # Fewer chunks than keys.
    assert host.set(names(2), chunks(9, 2)) == (True, [True] * 2)


def test_odd_sizes_and_long_keys(host):
    source = content(3, 12345)
    long = ["m" * 300 + "1", "m" * 300 + "2"]
    assert host.set(long, [source, source[:100].copy()]) == (True, [True] * 2)
    target = bytearray(12345)
    assert host.get(long[:1], [target]) == (True, [True]) and bytes(target) == source.tobytes()
    # Another size than was stored is no hit with other bytes.
    assert host.get(long[1:], [target]) == (False, [False])


def test_a_restart_keeps_the_hits_and_other_layouts_see_none(path):
    keys, source = names(4), chunks(4, 4)
    first = Host(path)
    assert first.set(keys, source)[0]
    first.connector.close()
    first.connector.close()
    stranger = Host(path, layout="float8 512")
    assert stranger.exists(keys) == [False] * 4
    stranger.connector.close()
    again = Host(path)
    target = numpy.zeros_like(source)
    assert again.exists(keys) == [True] * 4
    assert again.get(keys, target)[0] and (target == source).all()
    again.connector.close()


def test_a_flipped_byte_is_a_failed_load_and_then_a_miss(path):
    keys, source = names(3), chunks(5, 3)
    first = Host(path)
    assert first.set(keys, source)[0]
    first.connector.close()
    flip_byte(path, source[1])
    again = Host(path)
    assert again.exists(keys) == [True] * 3
    target = numpy.zeros_like(source)
    assert again.get(keys, target) == (False, [True, False, True])
    assert (target[[0, 2]] == source[[0, 2]]).all()
    assert again.exists(keys) == [True, False, True]
    again.connector.close()


def test_what_is_leased_stays_and_a_full_store_refuses(path):
    host = Host(path, lease_seconds=600)
    source, stored = chunks(6, 1), []
    # Each chunk is a hit that was promised, so none makes room for the next: that is refused, or
    # leaves before it was promised.
    while host.set(names(1, len(stored)), source)[0]:
        if host.exists(names(1, len(stored))) == [False]:
            break
        stored += names(1, len(stored))
        assert len(stored) < 64
    assert all(host.exists(stored)) and stored
    target = numpy.zeros_like(source)
    assert host.get(stored[:1], target)[0] and (target == source[0]).all()
    host.connector.close()


def test_two_connectors_of_one_process_share_the_store(path):
    first, second = Host(path), Host(path)
    assert first.set(names(1), chunks(7, 1))[0]
    assert second.exists(names(1)) == [True]
    first.connector.close()
    assert second.exists(names(1)) == [True]
    with pytest.raises(cairn.FailedPreconditionError, match="its own path"):
        Host(path, layout="other")
    second.connector.close()


def test_a_forked_process_is_refused(host):
    child = os.fork()
    if child == 0:
        refused = 0
        for call in (
            lambda: host.connector.submit_batch_exists(names(1)),
            lambda: host.connector.submit_batch_set(names(1), [bytearray(10)]),
            host.connector.close,
        ):
            try:
                call()
            except cairn.ForkedError:
                refused += 1
        os._exit(refused)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3


def test_the_interpreter_ends_with_an_open_connector(path):
    code = f"""
import numpy
from cairn.hosts.lmcache import CairnConnector
connector = CairnConnector(path={str(path)!r}, l2_bytes=16 << 20, l3_bytes=64 << 20)
chunk = numpy.zeros(1 << 20, numpy.uint8)
for i in range(8):
    connector.submit_batch_set([str(i)], [chunk])
connector.submit_batch_exists(["0"])
"""
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60
    )
    assert (ended.returncode, ended.stderr) == (0, "")


def test_under_lmcaches_own_adapter(path):
    plugin = pytest.importorskip(
        "lmcache.v1.distributed.l2_adapters.native_plugin_l2_adapter",
        reason="LMCache is not installed: its adapter over this object is not run",
        exc_type=ImportError,
    )
    from lmcache.v1.distributed.api import ObjectKey

    config = plugin.NativePluginL2AdapterConfig.from_dict({
        "module_path": "cairn.hosts.lmcache",
        "class_name": "CairnConnector",
        "adapter_params": {"path": str(path), **OPTIONS},
        "max_capacity_gb": 1,
    })
    adapter = plugin._create_native_plugin_l2_adapter(config)
    keys = [ObjectKey(bytes([i]) * 32, "tiny/model", 1) for i in range(4)]
    source, target = chunks(8, 4), numpy.zeros((4, CHUNK_BYTES), numpy.uint8)

    def objects(memory):
        return [types.SimpleNamespace(byte_array=memoryview(one)) for one in memory]

    def wait(fd):
        assert select.select([fd], [], [], 30)[0]
        os.eventfd_read(fd)

    stored = adapter.submit_store_task(keys[:3], objects(source[:3]))
    wait(adapter.get_store_event_fd())
    assert adapter.pop_completed_store_tasks()[stored].is_successful()
    looked = adapter.submit_lookup_and_lock_task(keys, {})
    wait(adapter.get_lookup_and_lock_event_fd())
    found = adapter.query_lookup_and_lock_result(looked)
    assert [found.test(i) for i in range(4)] == [True] * 3 + [False]
    loaded = adapter.submit_load_task(keys, objects(target))
    wait(adapter.get_load_event_fd())
    there = adapter.query_load_result(loaded)
    assert [there.test(i) for i in range(4)] == [True] * 3 + [False]
    assert (target[:3] == source[:3]).all()
    adapter.submit_unlock(keys)
    adapter.delete(keys[:1])
    looked = adapter.submit_lookup_and_lock_task(keys[:1], {})
    wait(adapter.get_lookup_and_lock_event_fd())
    assert not adapter.query_lookup_and_lock_result(looked).test(0)
    adapter.close()
