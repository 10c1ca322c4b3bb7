"""Which word goes with which patch, in the similarity that a CLIP-like model gives.

The model here is tiny and untrained, so that the example runs anywhere in seconds; what it prints
means nothing. With a real checkpoint, replace the two lines of `main` that say so.
"""

import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPProcessor
from transformers import PreTrainedTokenizerFast as FastTokenizer

from fli2moe.explain import TokenGame, shapley_interactions

WORDS = ["<pad>", "<start>", "<unk>", "a", "red", "square", "beside", "blue", "circle", "<end>"]


def tiny_processor() -> CLIPProcessor:
    """A tokenizer of ten words and pictures of 16 x 16 pixels."""
    words = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    special = [("<start>", 1), ("<end>", 9)]
    words.post_processor = processors.TemplateProcessing("<start> $A <end>", special_tokens=special)
    names = {"pad_token": "<pad>", "bos_token": "<start>", "eos_token": "<end>"}
    tokenizer = FastTokenizer(tokenizer_object=words, unk_token="<unk>", **names)
    size = {"height": 16, "width": 16}
    return CLIPProcessor(
        CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size=size), tokenizer
    )


def tiny_model() -> CLIPModel:
    """Two towers of one layer, 2 x 2 patches, random weights."""
    torch.manual_seed(0)
    tower = {"hidden_size": 16, "intermediate_size": 32, "projection_dim": 8}
    tower |= {"num_hidden_layers": 1, "num_attention_heads": 2}
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 9}
    text = {**tower, **ids, "vocab_size": len(WORDS), "max_position_embeddings": 16}
    vision = {**tower, "image_size": 16, "patch_size": 8}
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8))


def main() -> None:
    """Prints the five pairs with the largest interaction."""
    model = tiny_model()  # CLIPModel.from_pretrained("folder or name of a checkpoint")
    processor = tiny_processor()  # CLIPProcessor.from_pretrained("the same")
    text = "a red square beside a blue circle"
    picture = Image.effect_mandelbrot((24, 16), (-2, -1, 1, 1), 50).convert("RGB")
    inputs = processor(text=text, images=picture, return_tensors="pt")
    game = TokenGame.from_model(model, inputs, processor, text=text, picture_size=picture.size)
    for pair in shapley_interactions(game, budget=4096).top(5):
        print(pair)


if __name__ == "__main__":
    main()
