"""Whether generate() with KV restored from L3 makes the tokens that it makes without.

    build/python/env/bin/python bench/python/transformers_identity.py [--prompts 200]

For each small model of random weights (tiny_models.py), greedily and in fp32: random prompts, every
fourth a chat of three turns, first without a store, then with one, each chat's first turn; then
everything in a second process, which finds only what is on L3; then, after a byte was flipped in
1 % of the tensors on disk, everything in a third. Exit status 0: the same tokens everywhere, most
of them restored, and damage found where it had been done.

Printed for each run: prompt tokens restored and all of them; images whose tokens were restored,
those whose features came from the store, and those encoded; blocks lost; the largest difference
of a logit from the run without a store, and how close the two likeliest tokens came there.
"""

import argparse
import dataclasses
import json
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).parents[2]
NEW_TOKENS = 16
BLOCK_TOKENS = 16
TURNS = 3
DAMAGED_SHARE = 0.01


def conversations(model_name, count):
    """Of each prompt: itself and, for every turn, what is added to it."""
    import torch
    from tiny_models import Prompt

    for number in range(count):
        prompt = Prompt(model_name == "qwen3-vl", torch.Generator().manual_seed(number))
        yield number, prompt, TURNS if number % 4 == 0 else 1


def play(model_name, prompts, generate, turns_max):
    """[[(the new tokens, their logits) of each turn] of each prompt]; each turn goes on from what
    was answered."""
    answers = []
    for number, prompt, turns in conversations(model_name, prompts):
        answers.append([])
        for turn in range(min(turns, turns_max)):
            prompt.add_text(20, 200 if turn == 0 else 40)
            if (number + turn) % 3 < 2:
                prompt.add_image(seed=(number + turn) % 7)
                prompt.add_text(1, 60)
            output = generate(
                **prompt.inputs(),
                max_new_tokens=NEW_TOKENS,
                do_sample=False,
                return_dict_in_generate=True,
                output_logits=True,
            )
            new_tokens = output.sequences[0, prompt.tokens.shape[1] :]
            answers[-1].append((new_tokens, output.logits))
            prompt.add_answer(output.sequences)
    return answers


def compare(plain, answers):
    """How the answers differ from the plain ones."""
    import torch

    pairs = [pair for wanted, got in zip(plain, answers) for pair in zip(wanted, got)]
    differences = [
        (torch.stack(expected[1]) - torch.stack(got[1])).abs().max() for expected, got in pairs
    ]
    margins = [
        -logits.topk(2).values.diff().max() for expected, _ in pairs for logits in expected[1]
    ]
    return {
        "turns": len(pairs),
        "differ": sum(not torch.equal(expected[0], got[0]) for expected, got in pairs),
        "logit_difference_max": float(max(differences)),
        "margin_min": float(min(margins)),
    }


def run_passes(arguments):
    """In a process of its own: all models, one after the other."""
    import torch
    from tiny_models import make_model

    torch.set_num_threads(1)
    results = {run: {} for run in arguments.run}
    for name in arguments.models:
        model, answers_file = make_model(name), arguments.work / f"{name}.answers"
        for run in arguments.run:
            start = time.perf_counter()
            if run == "plain":
                answers, found = play(name, arguments.prompts, model.generate, TURNS), {}
                torch.save(answers, answers_file)
            else:
                answers, found = run_stored(name, model, run, arguments)
            found["seconds"] = time.perf_counter() - start
            results[run][name] = found | compare(torch.load(answers_file), answers)
    for run, found in results.items():
        (arguments.work / f"{run}.json").write_text(json.dumps(found))


def run_stored(name, model, run, arguments):
    import cairn
    from cairn.hosts.transformers import PrefixCache

    options = {"l2_bytes_max": 64 << 20, "l3_bytes_max": 1 << 30, "device": cairn.DeviceKind.HOST}
    with cairn.Store(arguments.work / "store", **options) as store:
        cache = PrefixCache(store, model, block_tokens=BLOCK_TOKENS)
        turns = 1 if run == "cold" else TURNS
        answers = play(name, arguments.prompts, cache.generate, turns)
        return answers, dataclasses.asdict(cache.statistics)


def in_process(runs, arguments, work):
    command = [sys.executable, __file__, "--run", *runs, "--work", work]
    command += ["--prompts", str(arguments.prompts), "--models", *arguments.models]
    subprocess.run(command, check=True)
    return {run: json.loads((work / f"{run}.json").read_text()) for run in runs}


def inspect(*arguments):
    command = [sys.executable, "-m", "cairn", "store-inspect", *map(str, arguments), "--json"]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE).stdout)


def damage(directory):
    """Flips a byte in some of the tensors on disk; returns how many."""
    keys = [one["key"] for one in inspect("keys", directory)["keys"]]
    chosen = random.Random(1).sample(keys, max(1, round(DAMAGED_SHARE * len(keys))))
    for key in chosen:
        [tensor] = inspect("show", directory, key)["tensors"]
        at = tensor["offset_in_file"] + (0 if tensor["packed"] else tensor["header_bytes"])
        with open(tensor["data_file_path"], "r+b") as file:
            file.seek(at + tensor["bytes"] // 2)
            byte = file.read(1)[0]
            file.seek(-1, 1)
            file.write(bytes([byte ^ 1]))
    return len(chosen), len(keys)


def report(runs):
    """Prints a line for each model and run; returns whether all is as it must be."""
    good = True
    print(
        "model    run       turns differ  restored of tokens      images lost  "
        "logits within  margin    s (plain)"
    )
    for run in ("cold", "restart", "damaged"):
        for name, one in runs[run].items():
            tokens = one["tokens_restored"] + one["tokens_computed"]
            images = f"{one['images_restored']}+{one['images_reused']}/{one['images_encoded']}"
            print(
                f"{name:8} {run:8} {one['turns']:6} {one['differ']:6} {one['tokens_restored']:9} "
                f"{tokens:9} {images:>11} {one['blocks_lost']:4} "
                f"{one['logit_difference_max']:14.1e} {one['margin_min']:7.1e} "
                f"{one['seconds']:4.0f} ({runs['plain'][name]['seconds']:.0f})"
            )
            good &= one["differ"] == 0 and one["turns"] > 0
            if run != "cold":
                good &= 2 * one["tokens_restored"] > tokens
                good &= one["images_encoded"] <= one["images_restored"] + one["images_reused"]
            if run == "restart":
                good &= one["blocks_lost"] == 0
    return good and sum(one["blocks_lost"] for one in runs["damaged"].values()) > 0


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=200)
    names = ["qwen3", "qwen3-vl", "llama", "mistral", "gemma3"]
    parser.add_argument("--models", nargs="+", default=names)
    parser.add_argument("--directory", default=str(ROOT / "build"))
    parser.add_argument("--run", nargs="+", help=argparse.SUPPRESS)
    parser.add_argument("--work", type=pathlib.Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        run_passes(arguments)
        return 0
    work = pathlib.Path(tempfile.mkdtemp(prefix="transformers-", dir=arguments.directory))
    try:
        runs = in_process(["plain", "cold"], arguments, work)
        runs |= in_process(["restart"], arguments, work)
        flipped, tensors = damage(work / "store")
        runs |= in_process(["damaged"], arguments, work)
    finally:
        shutil.rmtree(work)
    good = report(runs)
    verdict = "identical" if good else "NOT AS THEY MUST BE"
    print(f"a byte flipped in {flipped} of {tensors} tensors; tokens: {verdict}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
