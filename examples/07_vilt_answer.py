"""Which word goes with which patch, in the answer that a ViLT-like classifier gives.

The model here is tiny and untrained, so that the example runs anywhere in seconds; what it prints
means nothing. With a real checkpoint, replace the two lines of `main` that say so.
"""

import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast as FastTokenizer
from transformers import ViltConfig, ViltForQuestionAnswering, ViltImageProcessorPil, ViltProcessor

from fli2moe.explain import TokenGame, shapley_interactions

WORDS = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "what", "colour", "is", "the", "square", "left"]


def tiny_processor() -> ViltProcessor:
    """A tokenizer of ten words and pictures whose shorter edge has 16 pixels."""
    words = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    special = [("[CLS]", 1), ("[SEP]", 2)]
    words.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", special_tokens=special)
    names = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    tokenizer = FastTokenizer(tokenizer_object=words, unk_token="[UNK]", **names)
    pictures = ViltImageProcessorPil(size={"shortest_edge": 16}, size_divisor=8)
    return ViltProcessor(pictures, tokenizer)


def tiny_model() -> ViltForQuestionAnswering:
    """One layer, patches of 8 x 8 pixels, three answers, random weights."""
    torch.manual_seed(0)
    size = {"hidden_size": 16, "intermediate_size": 32, "image_size": 16, "patch_size": 8}
    size |= {"num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": 16}
    size |= {"initializer_range": 0.5}  # so that the answers differ at all
    answers = {0: "red", 1: "blue", 2: "green"}
    return ViltForQuestionAnswering(ViltConfig(vocab_size=len(WORDS), id2label=answers, **size))


def main() -> None:
    """Prints the five pairs with the largest interaction for the predicted answer."""
    model = tiny_model()  # ViltForQuestionAnswering.from_pretrained("folder of a checkpoint")
    processor = tiny_processor()  # ViltProcessor.from_pretrained("the same")
    text = "what colour is the left square"
    picture = Image.effect_mandelbrot((48, 32), (-2, -1, 1, 1), 50).convert("RGB")
    inputs = processor(text=text, images=picture, return_tensors="pt")
    game = TokenGame.from_model(model, inputs, processor, text=text, picture_size=picture.size)
    print(f"answer: {game.head}")
    for pair in shapley_interactions(game, budget=4096).top(5):
        print(pair)


if __name__ == "__main__":
    main()
