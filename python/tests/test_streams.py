"""What goes by streams: the host stands in for the GPU, whose default stream is 0."""

import time

import numpy
import pytest

import cairn

BLOCKS, LAYERS, PIECE = 4, 3, 64
SHAPE = (BLOCKS, LAYERS, PIECE)
PAGE_FIRST = (LAYERS * PIECE, PIECE)
LAYER_FIRST = (PIECE, BLOCKS * PIECE)


def evict(store, key):
    """As soon as no pin is left, within ten seconds."""
    end = time.monotonic() + 10
    while True:
        try:
            return store.evict(key, keep=cairn.Level.L3_NVME)
        except cairn.ResourceExhaustedError:
            assert time.monotonic() < end
            time.sleep(0.001)


def test_a_handle_is_released_behind_a_stream(store):
    store.put("k", numpy.arange(1000))
    handle = store.get("k")
    array = handle.numpy()
    with pytest.raises(cairn.InvalidArgumentError, match="an array made of the handle"):
        handle.release_after(0)
    assert handle.valid and array[7] == 7
    del array
    with pytest.raises(cairn.InvalidArgumentError, match="GPU 3"):
        handle.release_after(0, gpu=3)
    assert handle.valid
    handle.release_after(0)
    assert not handle.valid
    with pytest.raises(cairn.FailedPreconditionError, match="the handle is released"):
        handle.release_after(0)
    store.forget_stream(0)
    evict(store, "k")
    assert not store.describe("k").in_l2


def test_streams_are_of_the_stores_gpus(store):
    store.forget_stream(0)
    store.forget_stream(stream=0, gpu=0)
    with pytest.raises(cairn.InvalidArgumentError, match="GPU 3"):
        store.forget_stream(0, gpu=3)


def test_kv_blocks_are_turned(store):
    pages = numpy.random.default_rng(1).integers(0, 255, (BLOCKS, LAYERS, PIECE), numpy.uint8)
    store.put("pages", pages)
    layers = numpy.zeros((LAYERS, BLOCKS, PIECE), numpy.uint8)
    pitches = {"target_pitch": LAYER_FIRST, "source_pitch": PAGE_FIRST}
    with store.get("pages") as handle:
        store.copy_kv_blocks(layers, handle, shape=SHAPE, **pitches)
    assert (layers == pages.transpose(1, 0, 2)).all()
    back = numpy.zeros_like(pages)
    store.copy_kv_blocks(
        back, layers, shape=SHAPE, target_pitch=PAGE_FIRST, source_pitch=LAYER_FIRST
    )
    assert (back == pages).all()


def test_kv_blocks_that_do_not_fit_are_refused(store):
    pages = numpy.zeros((BLOCKS, LAYERS, PIECE), numpy.uint8)
    target = numpy.zeros_like(pages)

    def refused(match, target=target, **changed):
        given = {"shape": SHAPE, "target_pitch": LAYER_FIRST, "source_pitch": PAGE_FIRST}
        with pytest.raises(cairn.InvalidArgumentError, match=match):
            store.copy_kv_blocks(target, pages, **{**given, **changed})

    refused("the target has 704 bytes", target=target.reshape(-1)[:-PIECE])
    refused("the source has 768 bytes", source_pitch=(2**63, PIECE))
    refused("the target has 768 bytes", shape=(BLOCKS, LAYERS, PIECE + 1))
    refused(".", shape=(0, LAYERS, PIECE))
    refused(".", target_pitch=(1, BLOCKS * PIECE))
    target.flags.writeable = False
    refused("read-only")
    assert not target.any()
