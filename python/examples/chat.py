"""A chat about a long document and a picture, whose KV cache outlives the process.

    python python/examples/chat.py [--directory chat-store] [--document README.md]

Plays the same three turns in three processes: without a store; with a new one; and again after that
process has ended, with what it left on disk. Needs torch and transformers 5, and no network: the
model has the shape of a small Qwen3-VL and random weights, so its answers mean nothing; its tokens
are the bytes of the text. Prints for each turn how many tokens of the prompt were not computed
again, how many images not encoded again, and the time to the first token.
"""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

IMAGE, VIDEO, VISION_START, VISION_END = 256, 257, 258, 259
IMAGE_PATCHES, PATCH_BYTES = 16, 16  # A picture of 256 x 256 points.
NEW_TOKENS = 24
QUESTIONS = [
    "What is this about, and what does the picture show? ",
    "Which promise would you doubt first? ",
    "Look at the picture again: ",  # Which comes a second time.
]


def make_model():
    import torch
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

    torch.manual_seed(7)  # The same weights in every process.
    text = dict(
        vocab_size=260,
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_key_value_heads=4,
        head_dim=32,
        initializer_range=0.1,
        rope_parameters=dict(rope_type="default", rope_theta=1e6, mrope_section=[8, 4, 4]),
    )
    vision = dict(
        depth=8,
        hidden_size=256,
        intermediate_size=768,
        num_heads=8,
        out_hidden_size=256,
        num_position_embeddings=256,
        deepstack_visual_indexes=[1, 3, 5],
    )
    config = Qwen3VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=IMAGE,
        video_token_id=VIDEO,
        vision_start_token_id=VISION_START,
        vision_end_token_id=VISION_END,
    )
    model = Qwen3VLForConditionalGeneration(config).eval()
    model.generation_config.pad_token_id = 0
    # Random weights would name images that are not there.
    model.generation_config.suppress_tokens = [IMAGE, VIDEO, VISION_START, VISION_END]
    return model


class Chat:
    """What was said so far, as the inputs of the model."""

    def __init__(self):
        self.tokens, self.pictures = [], []

    def say(self, text):
        self.tokens += list(text)

    def show_picture(self):
        """Patches as an image processor makes them: colours that change over the picture."""
        import torch

        patches = torch.arange(IMAGE_PATCHES**2).view(-1, 1)
        points = torch.arange(3 * 2 * PATCH_BYTES**2).view(1, -1)
        self.pictures.append(torch.sin(patches * 0.05 + points * 0.01))
        self.tokens += [VISION_START, *[IMAGE] * (IMAGE_PATCHES**2 // 4), VISION_END]

    def inputs(self):
        import torch

        tokens = torch.tensor([self.tokens])
        grid = torch.tensor([[1, IMAGE_PATCHES, IMAGE_PATCHES]] * len(self.pictures))
        return {
            "input_ids": tokens,
            "attention_mask": torch.ones_like(tokens),
            "mm_token_type_ids": (tokens == IMAGE).int(),
            "pixel_values": torch.cat(self.pictures),
            "image_grid_thw": grid,
        }


class FirstToken:
    """A streamer that looks at the clock when the first token comes."""

    def __init__(self):
        self.start, self.seconds, self.prompt_seen = time.perf_counter(), None, False

    def put(self, tokens):
        if self.prompt_seen and self.seconds is None:
            self.seconds = time.perf_counter() - self.start
        self.prompt_seen = True

    def end(self):
        pass


def play(document, generate, statistics):
    """The three turns: of each, what generate() made and what it took."""
    chat, turns = Chat(), []
    chat.show_picture()
    chat.say(document)
    for number, question in enumerate(QUESTIONS):
        if number == 2:
            chat.show_picture()
        chat.say(question.encode())
        before, first_token = statistics(), FirstToken()
        sequences = generate(
            **chat.inputs(), max_new_tokens=NEW_TOKENS, do_sample=False, streamer=first_token
        )
        answer = sequences[0, len(chat.tokens) :].tolist()
        turns.append(
            {
                "prompt_tokens": len(chat.tokens),
                "images": len(chat.pictures),
                "answer": answer,
                "first_token_ms": first_token.seconds * 1e3,
                **{name: value - before[name] for name, value in statistics().items()},
            }
        )
        chat.tokens += answer
    return turns


def run(arguments):
    """In a process of its own; prints its turns as JSON."""
    import torch

    # All of them, beside other programs, would wait for each other.
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // 2))
    document = pathlib.Path(arguments.document).read_bytes()[: arguments.bytes]
    model = make_model()
    # The first call of a process loads what it needs; that is not what is shown here.
    model.generate(**small_inputs(), max_new_tokens=2)
    if arguments.run == "no store":
        return play(document, model.generate, lambda: {"restored": 0, "not_encoded": 0})

    import cairn
    from cairn.hosts.transformers import PrefixCache

    with cairn.Store(
        arguments.directory, l2_bytes_max=256 << 20, l3_bytes_max=1 << 30
    ) as store:
        cache = PrefixCache(store, model)

        def statistics():
            of = cache.statistics
            return {
                "restored": of.tokens_restored,
                "not_encoded": of.images_restored + of.images_reused,
            }

        return play(document, cache.generate, statistics)


def small_inputs():
    chat = Chat()
    chat.show_picture()
    chat.say(b"Hello")
    return chat.inputs()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    root = pathlib.Path(__file__).parents[2]
    parser.add_argument("--directory", default="chat-store", help="of the store; made anew")
    parser.add_argument("--document", default=root / "README.md", help="a text to talk about")
    parser.add_argument("--bytes", type=int, default=6000, help="of the document, at most")
    parser.add_argument("--run", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        print(json.dumps(run(arguments)))
        return 0
    if pathlib.Path(arguments.directory).exists():
        if not (pathlib.Path(arguments.directory) / "superblock").exists():
            parser.error(f"{arguments.directory} is there and is no store")
        shutil.rmtree(arguments.directory)
    print("run            turn  prompt tokens  not computed  images  not encoded  first token")
    answers = {}
    for name in ("no store", "new store", "restarted"):
        command = [sys.executable, __file__, "--run", name, "--directory", arguments.directory]
        command += ["--document", str(arguments.document), "--bytes", str(arguments.bytes)]
        result = subprocess.run(command, check=True, stdout=subprocess.PIPE)
        turns = json.loads(result.stdout.splitlines()[-1])
        answers[name] = [turn["answer"] for turn in turns]
        for number, turn in enumerate(turns, 1):
            print(
                f"{name:13} {number:5}  {turn['prompt_tokens']:13}  {turn['restored']:12}  "
                f"{turn['images']:6}  {turn['not_encoded']:11}  {turn['first_token_ms']:8.0f} ms"
            )
    same = answers["no store"] == answers["new store"] == answers["restarted"]
    print(f"the same tokens in all three: {'yes' if same else 'NO'}")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
