"""Tiny Hugging Face models with random weights, and their processors."""

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
    SiglipConfig,
    SiglipModel,
    ViltConfig,
    ViltImageProcessorPil,
    ViltProcessor,
)

WORDS = ["[PAD]", "[CLS]", "[UNK]", "[MASK]", "a", "red", "square", "beside", "blue", "[SEP]"]
TEXT = "a red square, beside blue"  # 6 words with the comma, which the tokenizer does not know
SIZE = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2}


def picture(width: int, height: int) -> Image.Image:
    return Image.effect_mandelbrot((width, height), (-2, -1, 1, 1), 50).convert("RGB")


def tokenizer() -> PreTrainedTokenizerFast:
    words = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(
        "[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 9)]
    )
    names = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    names |= {"unk_token": "[UNK]", "mask_token": "[MASK]"}
    return PreTrainedTokenizerFast(tokenizer_object=words, **names)


def clip(attention: str = "sdpa", eos: int = 9) -> CLIPModel:
    torch.manual_seed(0)
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": eos}
    tower = {**SIZE, "num_hidden_layers": 2, "projection_dim": 8}
    text = {**tower, **ids, "vocab_size": len(WORDS), "max_position_embeddings": 16}
    vision = {**tower, "image_size": 16, "patch_size": 8}
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)
    return CLIPModel._from_config(config, attn_implementation=attention)


def clip_inputs(**options: object) -> dict[str, torch.Tensor]:
    crop = {"height": 16, "width": 16}
    pictures = CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size=crop)
    both = CLIPProcessor(pictures, tokenizer())
    return both(text=TEXT, images=picture(24, 16), return_tensors="pt", **options), both


def siglip() -> SiglipModel:
    torch.manual_seed(0)
    tower = {**SIZE, "num_hidden_layers": 1}
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 9}
    text = {**tower, **ids, "vocab_size": len(WORDS), "max_position_embeddings": 16}
    vision = {**tower, "image_size": 16, "patch_size": 8}
    return SiglipModel(SiglipConfig(text_config=text, vision_config=vision))


def vilt(kind: type, **options: object) -> torch.nn.Module:
    torch.manual_seed(0)
    size = {**SIZE, "num_hidden_layers": 2, "image_size": 16, "patch_size": 8}
    size |= {"max_position_embeddings": 16, "vocab_size": len(WORDS), "initializer_range": 0.4}
    labels = {0: "red", 1: "blue", 2: "green"}
    return kind(ViltConfig(id2label=labels, **{**size, **options}))


def vilt_inputs(**options: object) -> dict[str, torch.Tensor]:
    pictures = ViltImageProcessorPil(size={"shortest_edge": 16}, size_divisor=8)
    both = ViltProcessor(pictures, tokenizer())
    return both(text=TEXT, images=picture(48, 32), return_tensors="pt", **options), both
