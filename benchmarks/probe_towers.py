"""A small CLIP-like model with random weights, built on the spot, as a game."""

from __future__ import annotations

import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPProcessor,
    PreTrainedTokenizerFast,
)

from fli2moe.explain import TokenGame

TEXT = "a small red square stands beside two blue circles near the door"  # 12 words
SPECIAL = ("[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]")
SIDE, PATCH = 40, 8  # pixels: 5 x 5 patches
SPREAD = 2.0  # of the weights, beside CLIP's own: attention is not uniform


def tower_game(seed: int) -> TokenGame:
    """The similarity of a text and a picture under a model whose weights `seed` draws."""
    words = [*SPECIAL, *dict.fromkeys(TEXT.split())]
    size = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4}
    tower = {**size, "num_hidden_layers": 2, "projection_dim": 16, "initializer_factor": SPREAD}
    text = {**tower, "vocab_size": len(words), "max_position_embeddings": 16}
    text |= {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    vision = {**tower, "image_size": SIDE, "patch_size": PATCH}
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = CLIPModel(config).eval()
    processor = _processor(words)
    picture = Image.effect_mandelbrot((SIDE, SIDE), (-2, -1, 1, 1), 50).convert("RGB")
    inputs = processor(text=TEXT, images=picture, return_tensors="pt")
    return TokenGame.from_model(model, inputs, processor, text=TEXT, batch_size=256)


def _processor(words: list[str]) -> CLIPProcessor:
    ids = {word: i for i, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        "[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    names = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    names |= {"unk_token": "[UNK]", "mask_token": "[MASK]"}
    pictures = CLIPImageProcessorPil(
        size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)
    return CLIPProcessor(pictures, fast)
