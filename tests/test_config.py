"""Strict configuration: what is accepted, what is refused in one line, and the round trip."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from fli2moe.config import Config
from fli2moe.errors import InputError, closest, one_line, unknown_name
from fli2moe.presets import PRESETS
from fli2moe.yaml_file import read_yaml

DATA: dict[str, Any] = {
    "path": "films.csv",
    "modalities": {"text": {"encoder": "builtin:words"}, "image": {"encoder": "builtin:patches"}},
}
TEXT = yaml.safe_dump({"data": DATA})


def config(**sections: object) -> Config:
    return Config.from_dict({"data": copy.deepcopy(DATA), **sections})


def refused(message: str, **sections: object) -> str:
    with pytest.raises(InputError, match=message) as caught:
        config(**sections)
    line = str(caught.value)
    assert "\n" not in line
    return line


def write(folder: Path, text: str, name: str = "run.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


# Unknown keys, wrong values


@pytest.mark.parametrize(
    ("sections", "key", "match"),
    [
        ({"trainin": {}}, "trainin", "training"),
        ({"training": {"epoch": 3}}, "training.epoch", "epochs"),
        ({"model": {"hiden": 3}}, "model.hiden", "hidden"),
        ({"model": {"router": {"temprature": 3}}}, "model.router.temprature", "temperature"),
        ({"losses": {"synergy_flor": 0}}, "losses.synergy_flor", "synergy_floor"),
        ({"explain": {"buget": 10}}, "explain.buget", "budget"),
        ({"evaluation": {"sample": 10}}, "evaluation.sample", "samples"),
        ({"data": {**DATA, "Path": "x"}}, "data.Path", "path"),
        (
            {"data": {"path": "x", "modalities": {"text": {"encoder": "x", "colum": "y"}}}},
            "data.modalities.text.colum",
            "column",
        ),
    ],
)
def test_an_unknown_key_names_the_closest(
    sections: dict[str, object], key: str, match: str
) -> None:
    line = refused("unknown key", **sections)
    assert line.startswith(f"config: {key}: unknown key; expected one of ")
    assert line.endswith(f"did you mean '{match}'?")


def test_a_key_far_from_all_others_is_to_be_removed() -> None:
    assert refused("unknown key", zzz=1).endswith("remove it")


@pytest.mark.parametrize("value", [{"max_tokens": 3}, 5, None])
def test_a_preset_s_own_section_is_no_key_of_the_user(value: object) -> None:
    refused("config: modality: unknown key", modality=value)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"seed": "many"}, "config: seed: 'many'; expected a valid integer"),
        ({"seed": -1}, "greater than or equal to 0"),
        ({"seed": 2**32}, "less than 4294967296"),
        ({"seed": True}, "seed: True; expected a value other than true and false"),
        ({"training": {"epochs": False}}, "epochs: False; expected a value other than"),
        ({"training": {"epochs": 1.5}}, "training.epochs: 1.5; expected a valid integer"),
        ({"training": {"learning_rate": 0}}, "training.learning_rate: 0; expected greater than 0"),
        ({"training": {"learning_rate": "1e999"}}, "learning_rate: '1e999'; expected a finite"),
        ({"losses": {"interaction": float("nan")}}, "losses.interaction: nan; expected a finite"),
        ({"training": {"optimizer": "adm"}}, "expected 'adam' or 'adamw'; did you mean 'adam'"),
        (
            {"evaluation": {"budget": 15}},
            "evaluation.budget: 15; expected greater than or equal to 16",
        ),
        ({"training": None}, r"training: nothing; expected a section \(key: value\)"),
        ({"training": [3]}, r"training: \[3\]; expected a section"),
        ({"data": {"path": "x"}}, "data.modalities: missing; expected a value"),
        ({"data": {**DATA, "path": ""}}, "data.path: ''; expected text that is not empty"),
        ({"data": {**DATA, "label_column": 5}}, "5; expected text; a number is put in quotes"),
        ({"data": {**DATA, "modalities": ["text"]}}, r"\['text'\]; expected a section"),
        ({"data": {**DATA, "modalities": {"a": 1}}}, "data.modalities.a: 1; expected a section"),
        ({"data": {**DATA, "modalities": {"a.b": {"encoder": "x"}}}}, "names without dots.*'a.b'"),
        ({"data": {**DATA, "modalities": {1: {"encoder": "x"}}}}, "data.modalities.1: 1; expected"),
        ({"model": {"hidden": 30}}, r"model.heads: 4; expected a divisor of model.hidden \(30\)"),
        ({"model": {"heads": 5}}, r"model.heads: 5; expected a divisor of model.hidden \(96\)"),
        ({"preset": "smal"}, "preset: unknown preset 'smal'; .*did you mean 'small'"),
        ({"preset": ["small"]}, "unknown preset"),
        ({"preset": None}, "unknown preset 'None'"),
    ],
)
def test_a_wrong_value_says_what_was_found_and_expected(
    sections: dict[str, object], message: str
) -> None:
    refused(message, **sections)


def test_no_data_and_keys_that_are_no_text() -> None:
    with pytest.raises(InputError, match="config: data: missing; expected a value"):
        Config.from_dict({})
    with pytest.raises(InputError, match=r"config: 1: 1; expected a name \(text\)"):
        Config.from_dict({"data": DATA, 1: 2})


def test_a_huge_value_is_shown_short() -> None:
    nested: list[Any] = ["lol"]
    for _ in range(60):  # 2 ** 60 leaves if it were written out
        nested = [nested, nested]
    assert len(refused("seed", seed=nested)) < 1000
    assert len(refused("seed", seed="9" * 10_000 + "x")) < 300


def test_numbers_in_the_forms_that_yaml_has() -> None:
    made = config(training={"learning_rate": "1e-3", "precision": 32, "clip": 1})
    assert made.training.learning_rate == 1e-3
    assert made.training.precision == "32"
    assert made.training.clip == 1.0


def test_a_configuration_does_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        config().seed = 3


# Presets


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_stands_below_what_the_user_says(preset: str) -> None:
    made = config(preset=preset).model_dump()
    plain = config().model_dump()

    def check(values: Mapping[str, Any], found: Mapping[str, Any]) -> None:
        for key, value in values.items():
            if isinstance(value, Mapping):
                check(value, found[key])
            else:
                assert found[key] == value, key

    defaults = {k: v for k, v in PRESETS[preset].items() if k != "modality"}
    check(defaults, made)
    for m in DATA["modalities"]:
        check(PRESETS[preset].get("modality", {}), made["data"]["modalities"][m])
    assert {k: v for k, v in made["data"].items() if k != "modalities"} == {
        k: v for k, v in plain["data"].items() if k != "modalities"
    }


def test_the_user_s_keys_win_at_every_depth_and_the_rest_stays_the_preset_s() -> None:
    made = config(
        preset="small",
        model={"layers": 3, "router": {"hidden": 7}},
        data={
            **DATA,
            "modalities": {
                "text": {"encoder": "x", "max_tokens": 9},
                "image": {"encoder": "y", "max_tokens": None},
            },
        },
    )
    assert (made.model.layers, made.model.hidden) == (3, 96)
    assert (made.model.router.hidden, made.model.router.dropout) == (7, 0.3)
    text, image = made.data.modalities["text"], made.data.modalities["image"]
    assert (text.max_tokens, text.pool) == (9, 2)
    assert (image.max_tokens, image.pool) == (None, 2)


def test_a_preset_is_not_changed_by_its_use() -> None:
    before = copy.deepcopy(PRESETS)
    config(preset="small", model={"router": {"hidden": 7}}, training={"epochs": 1})
    assert before == PRESETS


def test_the_published_hyperparameters_are_the_defaults() -> None:
    made = config(preset="paper")
    assert (made.training.optimizer, made.training.learning_rate) == ("adam", 1e-4)
    assert (made.training.epochs, made.training.batch_size) == (40, 32)
    assert (made.model.hidden, made.model.layers, made.model.heads) == (256, 2, 4)
    assert made.model.dropout == 0.5
    router = made.model.router
    assert (router.hidden, router.layers, router.temperature) == (256, 2, 2.0)
    assert (made.losses.interaction, made.losses.synergy_floor) == (0.5, None)
    assert made.data.modalities["text"].max_tokens == 320


# Files


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "models" / "vit").mkdir(parents=True)
    modalities = {
        "a": {"encoder": "builtin:words"},
        "b": {"encoder": "models/vit"},
        "c": {"encoder": "./not-there"},
        "d": {"encoder": "google/vit-base"},
        "e": {"encoder": "../shared"},
    }
    data = {"path": "sub/films.csv", "image_root": "pictures", "modalities": modalities}
    made = Config.from_yaml(write(tmp_path, yaml.safe_dump({"data": data})))
    folder = tmp_path.resolve()
    assert made.data.path == str(folder / "sub" / "films.csv")
    assert made.data.image_root == str(folder / "pictures")
    encoders = [m.encoder for m in made.data.modalities.values()]
    assert encoders == [
        "builtin:words",
        str(folder / "models" / "vit"),
        str(folder / "not-there"),
        "google/vit-base",
        str(folder.parent / "shared"),
    ]


def test_absolute_paths_and_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    absolute = str(tmp_path / "elsewhere" / "films.csv")
    text = yaml.safe_dump({"data": {**DATA, "path": absolute, "image_root": "~/pictures"}})
    made = Config.from_yaml(write(tmp_path, text))
    assert made.data.path == absolute
    assert made.data.image_root == str((tmp_path / "home" / "pictures").resolve())


@pytest.mark.parametrize("value", ["~no-such-user-here/films.csv", "a\0b"])
def test_a_path_that_cannot_be_one(value: str, tmp_path: Path) -> None:
    text = yaml.safe_dump({"data": {**DATA, "path": value}})
    with pytest.raises(InputError, match=r"^data.path: .*expected a path"):
        Config.from_yaml(write(tmp_path, text))


def test_overrides_stand_above_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, TEXT + "training: {epochs: 9, clip: 2}\n")
    made = Config.from_yaml(
        path,
        overrides={
            "training.epochs": 3,
            "model.router.hidden": 11,
            "seed": 5,
            "data.modalities.text.column": "plot",
        },
    )
    assert (made.training.epochs, made.training.clip) == (3, 2.0)
    assert (made.model.router.hidden, made.seed) == (11, 5)
    assert made.data.modalities["text"].column == "plot"
    assert made.data.modalities["image"].column is None


def test_an_override_reaches_one_of_two_aliases(tmp_path: Path) -> None:
    path = write(tmp_path, "data: {path: x, modalities: {a: &m {encoder: w}, b: *m}}\n")
    made = Config.from_yaml(path, overrides={"data.modalities.a.column": "plot"})
    assert [m.column for m in made.data.modalities.values()] == ["plot", None]


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("trainin.epochs", "trainin: unknown key.*did you mean 'training'"),
        ("training.epoch", "training.epoch: unknown key.*did you mean 'epochs'"),
        ("seed.x", "--set seed.x: seed is no section"),
    ],
)
def test_an_override_that_fits_nowhere(key: str, message: str, tmp_path: Path) -> None:
    path = write(tmp_path, TEXT + "seed: 1\n")
    with pytest.raises(InputError, match=message):
        Config.from_yaml(path, overrides={key: 3})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: 1\nseed: 2\n", "line 2, column 1: not valid YAML: key 'seed' twice"),
        ("a: {b: 1, c: 2, b: 3}\n", "line 1, column 17: not valid YAML: key 'b' twice"),
        ("seed: !!python/object/apply:os.getcwd []\n", "line 1.*could not determine a constructor"),
        ("seed: !!python/name:os.system\n", "could not determine a constructor"),
        ("seed: [\n", "line 2, column 1: not valid YAML: expected the node content"),
        ("\tseed: 1\n", r"line 1, column 1: not valid YAML: found character '\\t'"),
        ("a: 1\n--- \nb: 2\n", "not valid YAML: but found another document"),
        ("seed: *missing\n", "line 1, column 7: not valid YAML: found undefined alias"),
        ("seed: &a [*a]\n", "recursive"),
        ("? [a]\n: 1\n", "a key that is no name"),
        ("? {a: 1}\n: 1\n", "a key that is no name"),
        ("seed: 2020-99-99\n", "not valid YAML: month must be in 1..12"),
        ("seed: " + "9" * 5000 + "\n", "not valid YAML: Exceeds the limit"),
        ("seed: " + "[" * 5000 + "\n", "not valid YAML: nested too deeply"),
        ('seed: "\x01"\n', "not valid YAML: unacceptable character"),
        ("- a\n", "a list at the top; expected a YAML mapping"),
        ("", "nothing in it; expected a YAML mapping"),
        ("# only a comment\n", "nothing in it"),
    ],
)
def test_files_that_are_no_plain_yaml_mapping(text: str, message: str, tmp_path: Path) -> None:
    path = write(tmp_path, text)
    with pytest.raises(InputError, match=message) as caught:
        read_yaml(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("value", ["1e999", "1.0e+999", ".inf", "-.inf", ".nan"])
def test_infinity_is_no_number(value: str, tmp_path: Path) -> None:
    path = write(tmp_path, f"{TEXT}losses: {{interaction: {value}}}\n")
    with pytest.raises(InputError, match=r"losses.interaction: .*expected a finite number"):
        Config.from_yaml(path)


def test_merge_keys_and_anchors_are_yaml(tmp_path: Path) -> None:
    text = "a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: {y: 4, <<: *a}\n"
    assert read_yaml(write(tmp_path, text)) == {
        "a": {"x": 1, "y": 2},
        "b": {"x": 1, "y": 3},
        "c": {"x": 1, "y": 4},
    }


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    write(tmp_path, TEXT, "demo.yaml")
    with pytest.raises(InputError, match=r"no such file; .*did you mean demo.yaml\?"):
        Config.from_yaml(tmp_path / "dem.yaml")
    with pytest.raises(InputError, match=r"no such file; .*check the path"):
        Config.from_yaml(tmp_path / "nowhere" / "demo.yaml")
    with pytest.raises(InputError, match="no such file"):
        Config.from_yaml(tmp_path)
    with pytest.raises(InputError, match="cannot be read: File name too long"):
        Config.from_yaml(tmp_path / ("a" * 300))
    (tmp_path / "latin.yaml").write_bytes("path: caf\xe9".encode("latin-1"))
    with pytest.raises(InputError, match="no UTF-8 text"):
        Config.from_yaml(tmp_path / "latin.yaml")


@settings(max_examples=200, deadline=None)
@given(text=st.text(st.sampled_from("ab:{}[]<&*!|>'\"-?#,%@ \n\t0\x00\ud7ff\ufeff"), max_size=30))
def test_any_text_is_a_mapping_or_one_clear_line(
    text: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(text, encoding="utf-8", newline="")
    try:
        read = read_yaml(path)
    except InputError as error:
        read = {"error": str(error)}
    assert isinstance(read, dict)
    assert "\n" not in read.get("error", "")


# Round trip

NAMES = st.text(st.characters(categories=("L", "Nd"), include_characters=" _-:é"), min_size=1)
CONFIGS = st.fixed_dictionaries(
    {
        "data": st.fixed_dictionaries(
            {
                "path": NAMES.map(lambda name: f"/data/{name.strip() or 'x'}"),
                "modalities": st.dictionaries(
                    NAMES.filter(str.strip),
                    st.fixed_dictionaries(
                        {"encoder": NAMES.map(lambda name: f"hub/{name}")},
                        optional={
                            "column": st.none() | st.text(),
                            "max_tokens": st.none() | st.integers(1, 999),
                            "pool": st.integers(1, 4),
                        },
                    ),
                    max_size=3,
                ),
            },
            optional={
                "classes": st.none() | st.lists(st.text(), max_size=4),
                "label_separator": st.text(max_size=3),
                "allow_outside": st.booleans(),
            },
        )
    },
    optional={
        "preset": st.sampled_from(list(PRESETS)),
        "seed": st.integers(0, 2**32 - 1),
        "losses": st.fixed_dictionaries(
            {}, optional={"synergy_floor": st.none() | st.floats(-1, 1)}
        ),
        "training": st.fixed_dictionaries(
            {},
            optional={
                "learning_rate": st.floats(1e-300, 1e300),
                "clip": st.none() | st.floats(1e-9, 1e9),
                "precision": st.sampled_from(["32", "bf16-mixed"]),
            },
        ),
        "model": st.fixed_dictionaries(
            {}, optional={"router": st.fixed_dictionaries({"dropout": st.floats(0, 0.99)})}
        ),
    },
)


@settings(max_examples=60, deadline=None)
@given(data=CONFIGS)
def test_what_is_written_is_what_is_read(
    data: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp()
    made = Config.from_dict(data)
    path = write(folder, made.to_yaml(), "round.yaml")
    again = Config.from_yaml(path)
    assert again == made.resolved(folder)
    assert Config.from_yaml(write(folder, again.to_yaml(), "round.yaml")) == again


def test_every_field_says_what_it_is() -> None:
    def sections(model: type[BaseModel]) -> list[type[BaseModel]]:
        found = [model]
        for field in model.model_fields.values():
            for inner in (field.annotation, *get_args(field.annotation)):
                if isinstance(inner, type) and issubclass(inner, BaseModel):
                    found += sections(inner)
        return found

    described = 0
    for section in sections(Config):
        for name, field in section.model_fields.items():
            if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
                continue  # a section's docstring says it
            assert field.description, f"{section.__name__}.{name}"
            described += 1
    assert described > 50


# Errors


def test_an_error_is_one_line_with_everything_in_it() -> None:
    error = InputError("films.csv, row 3", "no\nfile\x1b[0m", "a picture", "check it")
    assert str(error) == r"films.csv, row 3: no\nfile\x1b[0m; expected a picture; check it"
    assert str(InputError("x", "bad")) == "x: bad"


@given(st.text(st.characters(), max_size=30))
def test_one_line_is_one_line(text: str) -> None:
    assert one_line(text).isprintable()


def test_the_closest_name() -> None:
    assert closest("TEXT ", ["text", "image"]) == "text"
    assert closest("imgae", ["text", "image"]) == "image"
    assert closest("zzz", ["text", "image"]) is None
    error = unknown_name("game", "head", "zzz", ["text", "image"])
    assert str(error) == "game: unknown head 'zzz'; expected one of text, image; use one of them"


# Values of several kinds


@pytest.mark.parametrize("value", ["auto", None, 1, 7])
def test_a_micro_batch_is_auto_all_or_a_number(value: Any) -> None:
    made = config(training={"micro_batch": value})
    assert made.training.micro_batch == value
    assert Config.from_dict(yaml.safe_load(made.to_yaml())) == made


@pytest.mark.parametrize("value", [0, -1, 1.5, "all", [1]])
def test_another_micro_batch_is_one_line(value: Any) -> None:
    line = refused("training.micro_batch: ", training={"micro_batch": value})
    assert line.endswith("expected auto, null or a number from 1")


@pytest.mark.parametrize("value", ["none", "balanced", {"a": 1.0, "b": 0.5}])
def test_class_weights_are_a_name_or_a_weight_for_each_class(value: Any) -> None:
    made = config(training={"class_weights": value})
    assert made.training.class_weights == value
    assert Config.from_dict(yaml.safe_load(made.to_yaml())) == made


@pytest.mark.parametrize("value", ["even", {"a": 0}, {"a": -1}, {"a": "x"}, 2, [1, 2], None])
def test_other_class_weights_are_one_line(value: Any) -> None:
    line = refused("training.class_weights: ", training={"class_weights": value})
    assert line.endswith("expected none, balanced or {class: a weight above 0}")
