"""Awaiting a store, and polling it."""

import asyncio
import select

import numpy
import pytest

import cairn


def block(value, size=8192):
    return numpy.full(size, value, numpy.uint8)


def test_await(store):
    async def main():
        await store.put_from_async(["a", "b"], [block(1), block(2)])
        await store.put_from_async("c", block(3))
        targets = [block(0) for _ in range(2)]
        await store.get_into_async(["a", "b"], targets)
        assert targets[0][0] == 1 and targets[1][-1] == 2
        handles = await asyncio.gather(*(store.get_async("c") for _ in range(500)))
        assert all(handle.numpy()[0] == 3 for handle in handles)
        await store.get_into_async([], [])

    asyncio.run(main())
    asyncio.run(main())  # Another loop, another queue.


def test_errors_are_raised_where_they_are_awaited(store):
    async def main():
        await store.put_from_async("a", block(1))
        with pytest.raises(cairn.NotFoundError, match="no tensor none"):
            await store.get_async("none")
        with pytest.raises(cairn.NotFoundError):
            await store.get_into_async("none", block(0))
        with pytest.raises(cairn.BatchError) as caught:
            await store.get_into_async(["a", "none"], [block(0), block(0)])
        assert caught.value.errors[0] is None
        with pytest.raises(cairn.InvalidArgumentError, match="timeout"):
            await store.get_async("a", timeout=-1)
        store.close()
        with pytest.raises(cairn.FailedPreconditionError, match="closed"):
            await store.get_async("a")

    asyncio.run(main())


def test_the_event_loop_goes_on_meanwhile(store):
    async def main():
        ticks = 0

        async def tick():
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0)

        ticker = asyncio.create_task(tick())
        await store.put_from_async("a", block(1, 8 << 20))
        assert ticks > 0
        ticker.cancel()

    asyncio.run(main())


def test_cancelling_keeps_the_memory_until_the_transfer_ends(store):
    store.put_from([f"k{i}" for i in range(16)], [block(i, 1 << 20) for i in range(16)])

    async def main():
        tasks = [
            asyncio.create_task(store.get_into_async(f"k{i}", block(0, 1 << 20)))
            for i in range(16)
        ]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert (await store.get_async("k3")).numpy()[0] == 3

    asyncio.run(main())


def test_polling(store):
    queue = cairn.CompletionQueue(4)
    store.submit_put_from(queue, ["a", "b"], [block(1), block(2)], first_tag=10)
    done = []
    while len(done) < 2:
        assert select.select([queue], [], [], 30)[0]
        done += queue.drain()
    assert sorted(one.tag for one in done) == [10, 11]
    assert all(one.error is None and one.handle is None for one in done)
    store.submit_get(queue, ["a", "none"], first_tag=7)
    done = {}
    while len(done) < 2:
        done |= {one.tag: one for one in queue.wait(timeout=30)}
    assert done[7].handle.numpy()[0] == 1
    assert isinstance(done[8].error, cairn.NotFoundError)
    assert queue.outstanding == 0 and queue.drain() == [] and queue.wait(timeout=0) == []
    with pytest.raises(cairn.ResourceExhaustedError, match="completion queue is full"):
        store.submit_get(queue, ["a"] * 5)
    assert queue.outstanding == 0


def test_a_queue_lives_as_long_as_its_calls(store):
    store.put_from("k", block(1, 8 << 20))
    for _ in range(20):
        queue = cairn.CompletionQueue()
        store.submit_get_into(queue, ["k"], [block(0, 8 << 20)])
        del queue
    assert store.get("k").numpy()[0] == 1
