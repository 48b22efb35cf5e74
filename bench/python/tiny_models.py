"""Small models of random weights, and random prompts for them: text, chats, images."""

import torch
import transformers

VOCABULARY = 320
TEXT_TOKENS = (1, 256)
IMAGE_TOKEN, VIDEO_TOKEN, VISION_START, VISION_END = 300, 301, 302, 303
PATCH, MERGE = 4, 2
WINDOW = 48

_TEXT = dict(
    vocab_size=VOCABULARY,
    hidden_size=64,
    intermediate_size=128,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=16,
    max_position_embeddings=4096,
    # Wide enough that the likeliest token changes from step to step.
    initializer_range=0.2,
    tie_word_embeddings=False,
    pad_token_id=None,
    bos_token_id=None,
    eos_token_id=None,
)


def _qwen3():
    return transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**_TEXT))


def _llama():
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**_TEXT))


def _mistral():
    return transformers.MistralForCausalLM(
        transformers.MistralConfig(**_TEXT, sliding_window=WINDOW)
    )


def _gemma3():
    kinds = ["sliding_attention", "full_attention", "sliding_attention"]
    return transformers.Gemma3ForCausalLM(
        transformers.Gemma3TextConfig(**_TEXT, sliding_window=WINDOW, layer_types=kinds)
    )


def _qwen3_vl():
    vision = dict(
        depth=3,
        hidden_size=32,
        intermediate_size=64,
        num_heads=4,
        patch_size=PATCH,
        spatial_merge_size=MERGE,
        out_hidden_size=_TEXT["hidden_size"],
        num_position_embeddings=64,
        deepstack_visual_indexes=[0, 1],
        initializer_range=0.2,
    )
    rope = dict(rope_type="default", rope_theta=10000.0, mrope_section=[4, 2, 2])
    return transformers.Qwen3VLForConditionalGeneration(
        transformers.Qwen3VLConfig(
            text_config=dict(_TEXT, rope_parameters=rope),
            vision_config=vision,
            image_token_id=IMAGE_TOKEN,
            video_token_id=VIDEO_TOKEN,
            vision_start_token_id=VISION_START,
            vision_end_token_id=VISION_END,
            tie_word_embeddings=False,
        )
    )


MODELS = {
    "qwen3": _qwen3,
    "qwen3-vl": _qwen3_vl,
    "llama": _llama,
    "mistral": _mistral,  # All layers with a sliding window.
    "gemma3": _gemma3,  # Some.
}


def make_model(name, seed=1):
    """The same weights for the same name and seed, in every process."""
    torch.manual_seed(seed)
    model = MODELS[name]().eval()
    model.generation_config.pad_token_id = 0
    # Random weights would name images that are not there.
    model.generation_config.suppress_tokens = list(range(IMAGE_TOKEN, VISION_END + 1))
    return model


class Prompt:
    """Tokens and the images among them, which grow turn by turn."""

    def __init__(self, with_images, random):
        self.with_images, self.random = with_images, random
        self.tokens = torch.zeros(1, 0, dtype=torch.long)
        self.images = []

    def add_text(self, least, most):
        count = int(torch.randint(least, most, (1,), generator=self.random))
        self._add(torch.randint(*TEXT_TOKENS, (1, count), generator=self.random))

    def add_image(self, seed):
        """The same image for the same seed."""
        if not self.with_images:
            return
        random = torch.Generator().manual_seed(seed)
        height, width = (MERGE * int(n) for n in torch.randint(2, 6, (2,), generator=random))
        pixels = torch.randn(height * width, 3 * 2 * PATCH * PATCH, generator=random)
        self.images.append((pixels, torch.tensor([[1, height, width]])))
        tokens = [IMAGE_TOKEN] * (height * width // MERGE**2)
        self._add(torch.tensor([[VISION_START, *tokens, VISION_END]]))

    def add_answer(self, sequences):
        self.tokens = sequences

    def inputs(self):
        inputs = {"input_ids": self.tokens, "attention_mask": torch.ones_like(self.tokens)}
        if self.with_images:
            inputs["mm_token_type_ids"] = (self.tokens == IMAGE_TOKEN).int()
        if self.images:
            inputs["pixel_values"] = torch.cat([pixels for pixels, _ in self.images])
            inputs["image_grid_thw"] = torch.cat([grid for _, grid in self.images])
        return inputs

    def _add(self, tokens):
        self.tokens = torch.cat([self.tokens, tokens], dim=1)
