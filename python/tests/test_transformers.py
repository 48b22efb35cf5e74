"""The prefix cache of transformers: what it restores and refuses, and that no token changes."""

import os
import pathlib
import subprocess
import sys

import pytest

import cairn

pytest.importorskip("torch", reason="torch is not installed: tools/python-test.sh says why")
pytest.importorskip("transformers", minversion="5", reason="transformers 5 is not installed")

import torch
import transformers

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "bench/python"))
from tiny_models import IMAGE_TOKEN, MODELS, Prompt, make_model

from cairn.hosts.transformers import PrefixCache
from cairn.hosts.transformers.layers import cache_argument

GREEDY = {"max_new_tokens": 20, "do_sample": False}


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def text(seed, count):
    prompt = Prompt(False, torch.Generator().manual_seed(seed))
    prompt.add_text(count, count + 1)
    return prompt.tokens


def with_images(seeds, seed=0, behind=30):
    prompt = Prompt(True, torch.Generator().manual_seed(seed))
    prompt.add_text(40, 41)
    for image in seeds:
        prompt.add_image(image)
        prompt.add_text(behind, behind + 1)
    return prompt


def generate(model, tokens, **options):
    return model.generate(tokens, attention_mask=torch.ones_like(tokens), **GREEDY, **options)


@pytest.mark.parametrize("name", MODELS)
def test_a_chat_computes_only_what_is_new(store, name):
    model = make_model(name)
    cache = PrefixCache(store, model, block_tokens=16)
    first = text(1, 100)
    answered = generate(cache, first)
    assert torch.equal(answered, generate(model, first))
    assert (cache.statistics.tokens_restored, cache.statistics.tokens_computed) == (0, 100)
    # The last generated token has no KV yet: 119 tokens, 7 whole blocks.
    assert cache.statistics.blocks_saved == 7
    second = torch.cat([answered, text(2, 30)], dim=1)
    expected = generate(model, second)
    for _ in range(2):
        assert torch.equal(generate(cache, second), expected)
    # A new instance finds them, and one block less where nothing would be left to compute.
    again = PrefixCache(store, model, block_tokens=16)
    assert again.key_prefix == cache.key_prefix
    assert torch.equal(generate(again, first[:, :96]), generate(model, first[:, :96]))
    assert again.statistics.tokens_restored == 80
    assert {info.tensor_class for _, info in store.scan(cache.key_prefix)} == {cairn.TensorClass.KV}
    assert again.statistics.saves_failed == again.statistics.blocks_lost == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_what_is_restored_has_the_very_bits(store, dtype):
    model = make_model("qwen3").to(dtype)
    cache = PrefixCache(store, model, block_tokens=16)
    tokens = text(3, 70)
    with torch.no_grad():
        computed = cache.restore(tokens)
        logits = model(tokens, **cache_argument(model, computed)).logits
        assert cache.save(tokens, computed) == 4 and cache.save(tokens, computed) == 0
        restored = cache.restore(tokens)
        assert restored.restored_tokens == restored.get_seq_length() == 64
        for was, now in zip(computed.layers, restored.layers):
            assert torch.equal(was.keys[:, :, :64], now.keys)
            assert torch.equal(was.values[:, :, :64], now.values)
        rest = model(tokens[:, 64:], **cache_argument(model, restored)).logits
    bound = {torch.float32: 1e-4, torch.float16: 0.1, torch.bfloat16: 0.5}[dtype]
    assert (rest - logits[:, 64:]).abs().max() < bound


@pytest.mark.parametrize("name", ["qwen3", "gemma3"])
def test_prefill_in_blocks_has_the_very_logits(store, name):
    model = make_model(name).to(torch.bfloat16)
    options = {"prefill_chunk_size": 16, "return_dict_in_generate": True, "output_logits": True}
    tokens = text(4, 100)
    expected = generate(model, tokens, **options)
    for restored in (0, 96):
        cache = PrefixCache(store, model, block_tokens=16)
        output = generate(cache, tokens, **options)
        assert cache.statistics.tokens_restored == restored
        assert torch.equal(output.sequences, expected.sequences)
        assert torch.equal(torch.stack(output.logits), torch.stack(expected.logits))


@pytest.mark.parametrize("name", ["qwen3", "mistral", "gemma3"])
@pytest.mark.parametrize("broken", range(0, 6, 2))
def test_a_block_that_is_lost_ends_the_prefix(path, options, name, broken):
    model = make_model(name)
    tokens = text(5, 100)
    with cairn.Store(path, **options) as store:
        cache = PrefixCache(store, model, block_tokens=16)
        expected = generate(cache, tokens)
        for keys in cache._keys(tokens[0], [])[broken : broken + 1]:
            for key in keys:
                store.erase(key)
        assert torch.equal(generate(cache, tokens), expected)
        assert cache.statistics.tokens_restored == 16 * broken
        # It was put again.
        assert torch.equal(generate(cache, tokens), expected)
        assert cache.statistics.tokens_restored == 16 * broken + 96


class FailingStore:
    """A store whose reads fail: every one whose number is given, with garbage left behind."""

    def __init__(self, store, numbers):
        self.store, self.numbers, self.reads = store, set(numbers), 0

    def __getattr__(self, name):
        return getattr(self.store, name)

    def get_into(self, keys, tensors):
        self.store.get_into(keys, tensors)
        errors = [None] * len(keys)
        for at, tensor in enumerate(tensors):
            if self.reads in self.numbers:
                errors[at] = cairn.DataLossError("made to fail")
                tensor.fill_(1e3)
            self.reads += 1
        if any(errors):
            raise cairn.BatchError(errors)


@pytest.mark.parametrize("name", ["qwen3", "mistral", "gemma3"])
def test_whatever_read_fails_no_token_changes(store, name):
    model = make_model(name)
    tokens = text(6, 100)
    expected = generate(PrefixCache(store, model, block_tokens=16), tokens)
    for numbers in [{0}, {3}, {5}, {6}, {7}, {2, 7}, {5, 6, 7, 8}, range(100)]:
        cache = PrefixCache(FailingStore(store, numbers), model, block_tokens=16)
        assert torch.equal(generate(cache, tokens), expected)
        assert cache.statistics.tokens_restored < 96 or cache.statistics.blocks_lost == 0
        if 0 in numbers and name == "qwen3":
            assert cache.statistics.tokens_restored == 0


def test_an_image_is_encoded_once(store):
    model = make_model("qwen3-vl")
    cache = PrefixCache(store, model, block_tokens=16)
    said = cache.statistics

    def check(prompt, restored, reused, encoded):
        before = (said.images_restored, said.images_reused, said.images_encoded)
        expected = model.generate(**prompt.inputs(), **GREEDY)
        assert torch.equal(cache.generate(**prompt.inputs(), **GREEDY), expected)
        after = (said.images_restored, said.images_reused, said.images_encoded)
        assert tuple(b - a for a, b in zip(before, after)) == (restored, reused, encoded)

    check(with_images([1, 2, 1]), 0, 1, 2)
    check(with_images([1, 2, 1]), 3, 0, 0)
    check(with_images([1, 2, 3]), 2, 0, 1)
    check(with_images([1, 2, 3], seed=9), 0, 3, 0)  # Behind another text.
    # One of another content or form in the same place is another prompt.
    tokens = cache.statistics.tokens_restored
    prompt = with_images([1])
    prompt.images[0] = (prompt.images[0][0] + 1, prompt.images[0][1])
    check(prompt, 0, 0, 1)
    prompt = with_images([1])
    pixels, grid = prompt.images[0]
    prompt.images[0] = (pixels, grid[:, [0, 2, 1]])
    check(prompt, 0, 0, 1)
    assert cache.statistics.tokens_restored - tokens == 2 * 32
    classes = {info.tensor_class for _, info in store.scan(cache.key_prefix + "vision/")}
    assert classes == {cairn.TensorClass.VISION}


def test_an_image_may_be_restored_in_part(store):
    model = make_model("qwen3-vl")
    prompt = with_images([4], behind=3)
    place = (prompt.tokens[0] == IMAGE_TOKEN).nonzero().flatten().tolist()
    for block_tokens in (place[0] + 1, place[len(place) // 2], place[-1]):
        cache = PrefixCache(store, model, block_tokens=block_tokens)
        expected = model.generate(**prompt.inputs(), **GREEDY)
        for _ in range(2):
            assert torch.equal(cache.generate(**prompt.inputs(), **GREEDY), expected)
        assert cache.statistics.tokens_restored == block_tokens
        assert (cache.statistics.images_encoded, cache.statistics.images_reused) in [(1, 1), (0, 2)]


def test_models_do_not_share(store):
    model = make_model("qwen3")
    prefix = PrefixCache(store, model).key_prefix
    assert PrefixCache(store, make_model("qwen3")).key_prefix == prefix
    assert PrefixCache(store, model, block_tokens=32).key_prefix != prefix
    others = [make_model("qwen3", seed=2), make_model("qwen3").to(torch.bfloat16)]
    eager = make_model("qwen3")
    eager.set_attn_implementation("eager")
    named = PrefixCache(store, model, weights_id="revision 1").key_prefix
    again = PrefixCache(store, make_model("qwen3", seed=2), weights_id="revision 1")
    assert again.key_prefix == named
    prefixes = [PrefixCache(store, other).key_prefix for other in [*others, eager]]
    assert len({prefix, named, *prefixes}) == 5


def test_a_changed_weight_is_another_model(store):
    model = make_model("llama")
    cache = PrefixCache(store, model, block_tokens=16)
    tokens = text(7, 60)
    generate(cache, tokens)
    before = cache.key_prefix
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[3, 4] += 0.5
    assert torch.equal(generate(cache, tokens), generate(model, tokens))
    assert cache.key_prefix != before and cache.statistics.tokens_restored == 0


def test_what_cannot_be_cached_is_refused(store):
    model = make_model("qwen3")
    cache = PrefixCache(store, model)
    tokens = text(8, 80)
    ones = torch.ones_like(tokens)
    hidden = ones.clone()
    hidden[0, 0] = 0
    for options, says in [
        ({"input_ids": tokens.repeat(2, 1)}, "one sequence at a time"),
        ({"attention_mask": hidden}, "without padding"),
        ({"num_beams": 2}, "num_beams=2"),
        ({"num_return_sequences": 2}, "num_return_sequences=2"),
        ({"use_cache": False}, "use_cache=False"),
        ({"cache_implementation": "static"}, "cache_implementation='static'"),
        ({"generation_config": transformers.GenerationConfig(num_beams=3)}, "num_beams=3"),
        ({"past_key_values": transformers.DynamicCache()}, "past_key_values"),
        ({"cache": transformers.DynamicCache()}, "cache"),
        ({"inputs_embeds": torch.zeros(1, 80, 64)}, "inputs_embeds"),
        ({"position_ids": tokens}, "position_ids"),
        ({"pixel_values": torch.zeros(4, 96)}, "mm_token_type_ids must be 1 for the tokens"),
        ({"mm_token_type_ids": ones}, "mm_token_type_ids must be 1 for the tokens"),
        ({"image_grid_thw": torch.ones(1, 3)}, "Qwen3ForCausalLM takes them otherwise"),
    ]:
        with pytest.raises(ValueError, match=says):
            cache.generate(**{"input_ids": tokens, "attention_mask": ones, **options})
    with pytest.raises(ValueError, match="padding tokens"):
        cache.generate(torch.zeros_like(tokens))
    with pytest.raises(ValueError, match="model.eval"):
        generate(PrefixCache(store, model.train()), tokens)
    assert list(store.scan()) == []


def test_models_that_cannot_be_cached_are_refused(store):
    base = dict(
        vocab_size=64, hidden_size=32, intermediate_size=32, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=2,
    )  # fmt: skip
    rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}
    dynamic = transformers.LlamaForCausalLM(transformers.LlamaConfig(**base, rope_parameters=rope))
    with pytest.raises(ValueError, match="rope of type dynamic"):
        PrefixCache(store, dynamic.eval())
    linear = transformers.Qwen3NextForCausalLM(
        transformers.Qwen3NextConfig(
            **base, layer_types=["linear_attention", "full_attention"], num_experts=2,
            num_experts_per_tok=1, moe_intermediate_size=16, linear_num_value_heads=2,
            linear_num_key_heads=2, linear_key_head_dim=16, linear_value_head_dim=16,
        )
    )  # fmt: skip
    with pytest.raises(ValueError, match="layers of LinearAttention"):
        PrefixCache(store, linear.eval())
    with pytest.raises(TypeError, match="takes a transformers model, not a Linear"):
        PrefixCache(store, torch.nn.Linear(2, 2))
    with pytest.raises(ValueError, match="block_tokens is 0"):
        PrefixCache(store, make_model("qwen3"), block_tokens=0)


def test_a_store_without_room_costs_nothing_but_time(path, options):
    model = make_model("qwen3")
    tokens = text(9, 100)
    with cairn.Store(path, **options) as store:
        cache = PrefixCache(store, model, block_tokens=16)

        def refuse(*_, **__):
            raise cairn.ResourceExhaustedError("no room")

        cache._store = type("Full", (FailingStore,), {"put": refuse})(store, ())
        assert torch.equal(generate(cache, tokens), generate(model, tokens))
        assert cache.statistics.saves_failed == 7 and cache.statistics.blocks_saved == 0
    with pytest.raises(cairn.FailedPreconditionError, match="closed"):
        generate(cache, tokens)


def test_restarted_and_with_reads_that_fail(source_tree, tmp_path):
    """The short form of bench/python/transformers_identity.py."""
    program = source_tree / "bench/python/transformers_identity.py"
    command = [sys.executable, program, "--prompts", "4", "--directory", tmp_path]
    result = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_example(source_tree, tmp_path):
    program = source_tree / "python/examples/chat.py"
    command = [sys.executable, program, "--bytes", "600", "--directory", tmp_path / "chat"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "the same tokens in all three: yes" in result.stdout


def test_without_torch_the_import_says_so(tmp_path):
    (tmp_path / "torch.py").write_text("raise ImportError('no torch here')")
    code = "import cairn\nimport cairn.hosts.transformers"
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        timeout=60,
    )
    assert "ImportError: cairn.hosts.transformers needs torch and transformers 5" in result.stderr
