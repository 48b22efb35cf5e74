"""Processes: forked, spawned, ended with a store open; and what many calls leave behind."""

import gc
import os
import subprocess
import sys
import textwrap

import numpy

import cairn

OPEN = """
import cairn, numpy, os, sys, threading, multiprocessing
def open_store(path):
    return cairn.Store(path, l2_bytes_max=16 << 20, l3_bytes_max=64 << 20,
                       device=cairn.DeviceKind.HOST)
"""


def run(tmp_path, code, name="main.py"):
    """Runs a program that must end by itself; returns what it printed."""
    program = tmp_path / name
    program.write_text(OPEN + textwrap.dedent(code))
    result = subprocess.run(
        [sys.executable, program, str(tmp_path / "store")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr
    assert "leaked" not in result.stderr, result.stderr
    return result.stdout.split("\n")[:-1]


def test_a_forked_child_is_refused_and_ends(tmp_path):
    printed = run(
        tmp_path,
        """
        store = open_store(sys.argv[1])
        store.put("k", b"bytes")
        handle, queue = store.get("k"), cairn.CompletionQueue()
        child = os.fork()
        if child == 0:
            for call in (lambda: store.get("k"), lambda: store.put("k", b"other"), store.stats,
                         lambda: open_store(sys.argv[1] + "2"), queue.drain):
                try:
                    call()
                    print("not refused", flush=True)
                except cairn.ForkedError as error:
                    print("spawn" in str(error), flush=True)
            store.close()
            sys.exit(7)  # Through the interpreter's end, with everything still alive.
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        print(store.get("k").numpy().tobytes().decode())
        """,
    )
    assert printed == ["True"] * 5 + ["7", "bytes"]


def test_a_spawned_child_opens_its_own(tmp_path):
    printed = run(
        tmp_path,
        """
        def child(path):
            with open_store(path) as store:
                store.put("k", b"child")

        if __name__ == "__main__":
            store = open_store(sys.argv[1])
            process = multiprocessing.get_context("spawn").Process(
                target=child, args=(sys.argv[1] + "2",))
            process.start()
            process.join()
            print(process.exitcode)
            print(open_store(sys.argv[1] + "2").get("k").numpy().tobytes().decode())
        """,
    )
    assert printed == ["0", "child"]


def test_the_interpreter_ends_with_an_open_store(tmp_path):
    run(
        tmp_path,
        """
        store = open_store(sys.argv[1])
        store.put("k", numpy.zeros(1 << 20, "uint8"))
        handle = store.get("k")
        array = handle.numpy()
        def work():
            while True:
                try:
                    store.get("k").numpy()
                except cairn.FailedPreconditionError:
                    return
        for _ in range(4):
            threading.Thread(target=work, daemon=True).start()
        """,
    )
    printed = run(tmp_path, 'print(open_store(sys.argv[1]).get("k").nbytes)')
    assert printed == [str(1 << 20)]


def test_the_gil_is_free_while_a_call_waits(tmp_path):
    # Were it held, the get of the other thread could not end before the flush does; that both end
    # is all that can be said without a clock.
    printed = run(
        tmp_path,
        """
        store = open_store(sys.argv[1])
        queue = cairn.CompletionQueue(4)
        waiting = threading.Thread(target=lambda: print(len(queue.wait(timeout=None))))
        waiting.start()
        store.put("k", b"bytes")
        store.submit_get(queue, ["k"])
        waiting.join()
        """,
    )
    assert printed == ["1"]


def resident_bytes():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_many_cycles_leave_nothing(store):
    tensor = numpy.zeros(4096, numpy.uint8)
    target = numpy.zeros(4096, numpy.uint8)
    references = sys.getrefcount(tensor), sys.getrefcount(target)

    def cycles(count):
        for i in range(count):
            key = f"k{i % 64}"
            store.put(key, tensor)
            store.get(key).numpy()
            store.get_into([key], [target])
            try:
                store.get("none")
            except cairn.NotFoundError:
                pass

    # The first touches L2 and fills what remembers keys.
    cycles(10_000)
    gc.collect()
    before = resident_bytes()
    cycles(10_000)
    gc.collect()
    assert resident_bytes() - before < 8 << 20
    assert (sys.getrefcount(tensor), sys.getrefcount(target)) == references
    store.evict("k1", cairn.Level.L3_NVME)  # No pin is left.
