"""`shapes`: rendered pictures with captions whose labels have known causes (our own generator).

A picture is a 4 x 4 grid of 16-pixel cells. Four cells hold a coloured object, one of them in a
black frame; one cell holds a weather icon, one an ornament. The caption names one colour, one kind
of weather and one animal among filler words. Four labels, each true for half of the samples:

| label   | interaction    | cause                                                    |
|---------|----------------|----------------------------------------------------------|
| match   | synergy        | the colour word equals the colour of the framed object   |
| sunny   | redundancy     | the word `sunny`, and the sun icon, which always agree   |
| dog     | unique_text    | the word `dog`                                           |
| star    | unique_image   | the star ornament                                        |

The colours of the unframed objects are drawn independently of everything else, so hiding the
framed object leaves nothing that reveals its colour. The recipe is ours (design 3.9).
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from fli2moe.errors import InputError
from fli2moe.files import complete_file

CELL, GRID = 16, 4
COLOURS = {
    "red": (220, 40, 40),
    "green": (40, 170, 60),
    "blue": (50, 80, 220),
    "yellow": (235, 205, 40),
}
OBJECTS = ("circle", "square", "triangle", "diamond")
WEATHER = ("sunny", "rainy", "snowy")
ANIMALS = ("dog", "cat", "horse", "bird")
ORNAMENTS = ("star", "moon", "heart")
LABELS = {
    "match": "synergy",
    "sunny": "redundancy",
    "dog": "unique_text",
    "star": "unique_image",
}
BACKGROUND = (246, 244, 239)

_ADJECTIVES = ("small", "old", "happy", "quiet", "tall", "clever")
_PLACES = ("by the road", "in town", "near home", "at the lake", "in the park", "on a hill")
_TEMPLATES = (
    "on a {weather} day the {adjective} {animal} saw something {colour} {place}",
    "a {animal} and its {colour} toy were {place} this {weather} morning",
    "the {colour} one belongs to the {animal} {place} in {weather} weather",
    "{weather} again and the {adjective} {animal} wants a {colour} ball {place}",
    "my {adjective} {animal} looks for {colour} things when it is {weather}",
    "one {weather} afternoon a {colour} kite passed the {animal} {place}",
    "the {animal} found a {colour} box {place} on this {weather} day",
)


@dataclass(frozen=True)
class Scene:
    """What one sample shows and says; `cells` are the grid cells in row-major order.

    Attributes:
        framed: colour of the framed object.
        word: colour named in the caption.
        weather, animal, ornament: one of the constants of this module.
        others: colours of the three unframed objects.
        objects: forms of the four objects, the framed one first.
        cells: cell numbers of the framed object, the three others, weather icon, ornament.
        caption: the text.
    """

    framed: str
    word: str
    weather: str
    animal: str
    ornament: str
    others: tuple[str, ...]
    objects: tuple[str, ...]
    cells: tuple[int, ...]
    caption: str

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels that hold, in the order of `LABELS`."""
        holds = {
            "match": self.word == self.framed,
            "sunny": self.weather == "sunny",
            "dog": self.animal == "dog",
            "star": self.ornament == "star",
        }
        return tuple(name for name in LABELS if holds[name])

    @property
    def causes(self) -> list[dict[str, object]]:
        """The cause of every label, whether it holds or not, as the manifest's JSON."""
        image = {"match": self.cells[0], "sunny": self.cells[4], "star": self.cells[5]}
        text = {"match": self.word, "sunny": self.weather, "dog": self.animal}
        causes: list[dict[str, object]] = []
        for label, interaction in LABELS.items():
            spans: dict[str, list[list[int]]] = {}
            if label in text:
                start = self.caption.index(text[label])
                spans["text"] = [[start, start + len(text[label])]]
            if label in image:
                spans["image"] = [_box(image[label])]
            causes.append({"label": label, "interaction": interaction, "spans": spans})
        return causes


def draw_scene(random: np.random.Generator) -> Scene:
    """Returns a random scene; every label holds with probability 1/2, independently.

    Given the framed colour the caption names it half of the time and each other colour equally
    often else, so that neither the picture nor the caption alone tells the label `match`.
    """
    names = list(COLOURS)
    framed = str(random.choice(names))
    rest = [c for c in names if c != framed]
    word = framed if random.random() < 0.5 else str(random.choice(rest))
    weather = _half(random, WEATHER)
    animal = _half(random, ANIMALS)
    words = {"colour": word, "weather": weather, "animal": animal}
    words["adjective"] = str(random.choice(_ADJECTIVES))
    words["place"] = str(random.choice(_PLACES))
    return Scene(
        framed=framed,
        word=word,
        weather=weather,
        animal=animal,
        ornament=_half(random, ORNAMENTS),
        others=tuple(str(c) for c in random.choice(names, size=3)),
        objects=tuple(str(o) for o in random.choice(OBJECTS, size=4)),
        cells=tuple(int(c) for c in random.permutation(GRID * GRID)[:6]),
        caption=str(random.choice(_TEMPLATES)).format(**words),
    )


def render(scene: Scene) -> Image.Image:
    """Returns the RGB picture of a scene, 64 x 64 pixels."""
    picture = Image.new("RGB", (GRID * CELL, GRID * CELL), BACKGROUND)
    draw = ImageDraw.Draw(picture)
    colours = (scene.framed, *scene.others)
    for cell, form, colour in zip(scene.cells[:4], scene.objects, colours, strict=True):
        _object(draw, _box(cell), form, COLOURS[colour])
    x0, y0, x1, y1 = _box(scene.cells[0])
    draw.rectangle((x0, y0, x1 - 1, y1 - 1), outline=(20, 20, 20), width=2)
    for cell, icon, name in (
        (scene.cells[4], _weather, scene.weather),
        (scene.cells[5], _ornament, scene.ornament),
    ):
        tile = Image.new("RGB", (CELL, CELL), BACKGROUND)  # of its own: nothing spills over
        icon(ImageDraw.Draw(tile), name)
        x0, y0, _, _ = _box(cell)
        picture.paste(tile, (x0, y0))
    return picture


def write_shapes(
    folder: str | Path, *, sizes: tuple[int, int, int] = (5000, 500, 500), seed: int = 0
) -> Path:
    """Writes an ordinary manifest with PNG pictures and returns the path of `manifest.csv`.

    Args:
        folder: made if missing; pictures go to `folder/images`.
        sizes: number of training, validation and test samples.
        seed: of everything random.

    Raises:
        InputError: when a size is not positive.
        MachineError: when the folder cannot be written.
    """
    if min(sizes) < 1:
        raise InputError("shapes", f"sizes {sizes}", "at least one sample in each split")
    folder = Path(folder)
    random = np.random.default_rng(seed)
    splits: Sequence[str] = [
        s for s, n in zip(("train", "val", "test"), sizes, strict=True) for _ in range(n)
    ]
    manifest = folder / "manifest.csv"  # appears only when all pictures are there
    with (
        complete_file(manifest) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        (folder / "images").mkdir(exist_ok=True)
        writer = csv.writer(file)
        writer.writerow(["id", "image", "text", "label", "split", "causes"])
        for number, split in enumerate(splits):
            scene = draw_scene(random)
            name = f"{number:05d}"
            render(scene).save(folder / "images" / f"{name}.png", compress_level=1)
            labels, causes = "|".join(scene.labels), json.dumps(scene.causes)
            writer.writerow([name, f"images/{name}.png", scene.caption, labels, split, causes])
    return manifest


def _half(random: np.random.Generator, options: Sequence[str]) -> str:
    return options[0] if random.random() < 0.5 else str(random.choice(options[1:]))


def _box(cell: int) -> list[int]:
    row, column = divmod(cell, GRID)
    return [column * CELL, row * CELL, (column + 1) * CELL, (row + 1) * CELL]


def _object(draw: ImageDraw.ImageDraw, box: list[int], form: str, fill: tuple[int, ...]) -> None:
    x0, y0, x1, y1 = box[0] + 3, box[1] + 3, box[2] - 4, box[3] - 4
    middle_x, middle_y = (x0 + x1) / 2, (y0 + y1) / 2
    if form == "circle":
        draw.ellipse((x0, y0, x1, y1), fill=fill)
    elif form == "square":
        draw.rectangle((x0, y0, x1, y1), fill=fill)
    elif form == "triangle":
        draw.polygon([(middle_x, y0), (x1, y1), (x0, y1)], fill=fill)
    else:
        draw.polygon([(middle_x, y0), (x1, middle_y), (middle_x, y1), (x0, middle_y)], fill=fill)


def _weather(draw: ImageDraw.ImageDraw, weather: str) -> None:
    if weather == "sunny":
        for dx, dy in ((0, 7), (7, 0), (15, 8), (8, 15), (2, 2), (13, 2), (2, 13), (13, 13)):
            draw.line((7.5, 7.5, dx, dy), fill=(245, 150, 20))
        draw.ellipse((4, 4, 11, 11), fill=(250, 180, 30))
        return
    draw.ellipse((1, 3, 9, 9), fill=(150, 155, 165))
    draw.ellipse((5, 1, 14, 9), fill=(130, 135, 145))
    for dx in (3, 7, 11):
        if weather == "rainy":
            draw.line((dx + 1, 10, dx, 14), fill=(70, 130, 200))
        else:
            draw.rectangle((dx, 11, dx + 1, 12), fill=(190, 225, 245))


def _ornament(draw: ImageDraw.ImageDraw, ornament: str) -> None:
    if ornament == "star":
        angles = np.pi * (np.arange(10) / 5 - 0.5)
        radii = np.where(np.arange(10) % 2 == 0, 7.5, 3.0)
        points = np.stack([7.5 + radii * np.cos(angles), 8 + radii * np.sin(angles)], 1)
        draw.polygon([(float(a), float(b)) for a, b in points], fill=(140, 60, 170))
    elif ornament == "moon":
        draw.ellipse((2, 1, 14, 13), fill=(140, 60, 170))
        draw.ellipse((6, 0, 16, 11), fill=BACKGROUND)
    else:
        draw.ellipse((2, 3, 8, 9), fill=(140, 60, 170))
        draw.ellipse((7, 3, 13, 9), fill=(140, 60, 170))
        draw.polygon([(2, 7), (13, 7), (7.5, 14)], fill=(140, 60, 170))
