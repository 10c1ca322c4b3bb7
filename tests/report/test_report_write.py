import base64
import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from report_made import (
    CAPTION,
    EVIL,
    other_target,
    page_data,
    patch_players,
    shapes,
    text_only,
    word_players,
)

from fli2moe import report
from fli2moe.data.sample import Sample
from fli2moe.errors import InputError, MachineError
from fli2moe.explain.explanation import Explanation, TokenScores
from fli2moe.tokens import Player


def test_writes_one_complete_file_and_returns_its_path(tmp_path: Path) -> None:
    explanation, sample = shapes(tmp_path)
    target = tmp_path / "out" / "report.html"
    target.parent.mkdir()
    assert report.write([explanation], [sample], target) == target
    html = target.read_text(encoding="utf-8")
    assert html.startswith("<!doctype html>")
    assert html.rstrip().endswith("</html>")
    assert [p.name for p in target.parent.iterdir()] == ["report.html"]


def test_explanations_without_an_id_are_of_the_samples_in_their_place(tmp_path: Path) -> None:
    made = [shapes(tmp_path, f"shapes-{k}", k) for k in (1, 2)]
    explanations, samples = [e for e, _ in made], [s for _, s in made]
    nameless = [replace(e, sample_id="") for e in explanations]
    assert report.render(nameless, samples) == report.render(explanations, samples)
    mixed = [nameless[0], explanations[1]]
    assert report.render(mixed, samples) == report.render(explanations, samples)
    with pytest.raises(InputError, match=r"explanation of '': its sample is missing.*sample_id"):
        report.render(nameless[:1], samples)


def test_a_failed_write_leaves_the_earlier_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    explanation, sample = shapes(tmp_path)
    target = tmp_path / "out" / "report.html"
    target.parent.mkdir()
    target.write_text("earlier")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(MachineError, match="No space"):
        report.write([explanation], [sample], target)
    assert target.read_text() == "earlier"
    assert [p.name for p in target.parent.iterdir()] == ["report.html"]


def test_same_input_same_bytes(tmp_path: Path) -> None:
    explanation, sample = shapes(tmp_path)
    pages = [
        report.write([explanation], [sample], tmp_path / f"{k}.html").read_bytes() for k in (1, 2)
    ]
    assert pages[0] == pages[1]


def test_nothing_is_loaded_from_elsewhere(tmp_path: Path) -> None:
    explanation, sample = shapes(tmp_path)
    html = report.render([explanation], [sample])
    addresses = set(re.findall(r"https?://[^\s\"'<>]+", html))
    assert addresses == {"http://www.w3.org/2000/svg"}  # a namespace, never fetched
    assert not re.search(r"@import|src=\"(?!data:)|<link(?! rel=\"icon\" href=\"data:,\")", html)
    assert str(tmp_path) not in html


def test_the_policy_admits_only_the_pages_own_script_and_style(tmp_path: Path) -> None:
    explanation, sample = shapes(tmp_path)
    html = report.render([explanation], [sample])
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', html)
    assert policy is not None
    assert "default-src 'none'" in policy[1]
    assert "unsafe" not in policy[1]
    nonce = re.search(r"script-src 'nonce-([0-9a-f]{32})'", policy[1])
    assert nonce is not None
    assert re.findall(r"<script nonce=\"(\w+)\"", html) == [nonce[1]]
    assert "style=" not in re.sub(r"<(script|style).*?</\1>", "", html, flags=re.S)


def test_the_nonce_depends_on_the_data(tmp_path: Path) -> None:
    explanation, sample = shapes(tmp_path)
    nonces = {
        re.search(r"nonce-(\w+)", report.render([e], [sample]))[1]  # type: ignore[index]
        for e in (explanation, replace(explanation, seed=9))
    }
    assert len(nonces) == 2


def test_injected_markup_stays_text(tmp_path: Path) -> None:
    path = tmp_path / "<img src=x onerror=alert(1)>.png"
    Image.new("RGB", (32, 32), "red").save(path)
    classes = (EVIL, "javascript:alert(1)")
    explanation, sample = text_only(EVIL, EVIL, target=EVIL, classes=classes, labels=(EVIL,))
    patches = patch_players((32, 32), 2, 2)
    explanation = replace(
        explanation,
        inputs={"text": EVIL, "image": str(path)},
        sizes={"image": (32, 32)},
        players=(*explanation.players, *patches),
        notes=(EVIL,),
        settings={EVIL: EVIL},
        fingerprint=EVIL,
    )
    sample = Sample(sample.id, {"text": EVIL, "image": path}, (EVIL,))
    html = report.render(
        [explanation],
        [sample],
        title=EVIL,
        about={EVIL: EVIL},
        metrics={EVIL: {"columns": [EVIL], "rows": [[EVIL]], "note": EVIL}},
    )
    assert "<script>document" not in html
    assert "<img src=x" not in html
    assert html.count("</script>") == 3  # sentences, one card, the page's own script
    assert "49" not in re.findall(r"<h1>(.*?)</h1>", html)[0]
    card = page_data(html)[0]
    assert card["id"] == EVIL
    assert "".join(p[0] for p in card["views"][0]["drawings"][0]["pieces"]) == EVIL


@pytest.mark.parametrize("text", ["a\u2028b\u2029c", "a\x00b", "lone \ud800 half", "\u202eabc"])
def test_odd_characters_survive(tmp_path: Path, text: str) -> None:
    explanation, sample = text_only(text, text)
    page = report.write([explanation], [sample], tmp_path / "r.html", title=text)
    card = page_data(page.read_text(encoding="utf-8"))[0]
    assert "".join(p[0] for p in card["views"][0]["drawings"][0]["pieces"]) == text


def test_several_targets_share_one_card(tmp_path: Path) -> None:
    explanation, sample = shapes(tmp_path)
    html = report.render([explanation, other_target(explanation)], [sample])
    (card,) = page_data(html)
    assert [v["target"] for v in card["views"]] == ["colour match", "sunny day"]
    assert html.count('"picture":"data:image/png') == 1  # not once per target


def test_cards_keep_the_order_of_the_explanations(tmp_path: Path) -> None:
    made = [shapes(tmp_path, f"s{k}", k) for k in (2, 0, 1)]
    html = report.render([e for e, _ in made], [s for _, s in reversed(made)])
    assert [c["id"] for c in page_data(html)] == ["s2", "s0", "s1"]


def test_the_planted_pair_is_marked(tmp_path: Path) -> None:
    explanation, sample = shapes(tmp_path)
    view = page_data(report.render([explanation], [sample]))[0]["views"][0]
    table = view["pairs"]["synergy"]["mixture"]
    assert table["planted"] == 1
    assert table["total"] == 192
    first = table["rows"][0]
    assert [view["players"][i]["label"] for i in first[:2]] == ["red", "patch at the middle right"]
    assert first[6:] == ["synergy.clear", 1, 0]
    assert view["pairs"]["redundancy"]["mixture"]["planted"] is None  # the truth of another label
    assert view["drawings"][1]["causes"] == [[48, 16, 64, 32]]


def test_two_pictures_and_no_text(tmp_path: Path) -> None:
    explanation, sample = shapes(tmp_path)
    screen, wire = (patch_players((64, 64), 2, 2, m) for m in ("screenshot", "wireframe"))
    scores = TokenScores((0, 1, 2, 3), tuple(p.spans[0] for p in screen), {"mixture": (1, 2, 3, 4)})
    path = str(sample.inputs["image"])
    explanation = replace(
        explanation,
        players=(*screen, *wire),
        pairs={},
        token_scores={"screenshot": scores, "wireframe": scores},
        inputs={"screenshot": path, "wireframe": path},
        sizes={"screenshot": (64, 64), "wireframe": (64, 64)},
        unseen={"screenshot": ((0, 0, 64, 4),)},
    )
    sample = replace(sample, inputs={"screenshot": path, "wireframe": path}, causes=())
    (card,) = page_data(report.render([explanation], [sample]))
    assert [i["kind"] for i in card["inputs"]] == ["image", "image"]
    assert card["views"][0]["drawings"][0]["unseen"] == [[0, 0, 64, 4]]
    assert len(card["views"][0]["drawings"][1]["boxes"]) == 4


def test_a_vector_modality_is_a_strip_of_cells(tmp_path: Path) -> None:
    explanation, sample = text_only("some text")
    steps = tuple(Player("lab", (i,), ((i, i + 1),), f"step {i}") for i in range(5))
    scores = TokenScores(tuple(range(5)), tuple(p.spans[0] for p in steps), {"mixture": (1,) * 5})
    explanation = replace(
        explanation,
        players=(*explanation.players, *steps),
        inputs={"text": "some text", "lab": str(tmp_path / "x.npy")},
        token_scores={**explanation.token_scores, "lab": scores},
    )
    sample = replace(sample, inputs={"text": "some text", "lab": tmp_path / "x.npy"})
    (card,) = page_data(report.render([explanation], [sample]))
    assert card["inputs"][1] == {"modality": "lab", "kind": "vector", "file": "x.npy"}
    assert len(card["views"][0]["drawings"][1]["cells"]) == 5
    assert card["views"][0]["players"][-1]["label"] == "step 4"


def test_tokens_are_drawn_where_there_are_no_players() -> None:
    explanation, sample = text_only("two words", players=())
    view = page_data(report.render([explanation], [sample]))[0]["views"][0]
    assert [p["label"] for p in view["players"]] == ["two", "words"]
    assert view["scores"]["mixture"] == [0, 1]


@pytest.mark.parametrize("text", ["", "   ", "🎈"])
def test_text_without_content_tokens(text: str) -> None:
    empty = TokenScores((), (), {"mixture": ()})
    explanation, sample = text_only(text, players=(), token_scores={"text": empty})
    view = page_data(report.render([explanation], [sample]))[0]["views"][0]
    assert "".join(p[0] for p in view["drawings"][0]["pieces"]) == text
    assert view["players"] == []


def test_missing_errors_and_missing_scores_are_null(tmp_path: Path) -> None:
    explanation, sample = shapes(tmp_path)
    scores = explanation.pairs["synergy"]
    missing = replace(scores, standard_error=np.full(len(scores), np.nan))
    explanation = replace(explanation, pairs={"synergy": missing}, token_scores={})
    view = page_data(report.render([explanation], [sample]))[0]["views"][0]
    row = view["pairs"]["synergy"]["mixture"]["rows"][0]
    assert row[3] is None
    assert row[6] == "synergy.unsure"
    assert set(view["scores"]["mixture"]) == {None}


@pytest.mark.parametrize("content", [None, b"", b"<html>404</html>"])
def test_an_unreadable_picture_is_a_placeholder(tmp_path: Path, content: bytes | None) -> None:
    explanation, sample = shapes(tmp_path)
    path = Path(sample.inputs["image"])
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    html = report.render([explanation], [sample])
    (card,) = page_data(html)
    assert "picture" not in card["inputs"][1]
    assert card["inputs"][1]["problem"]
    assert str(tmp_path) not in html


def test_a_picture_loses_its_metadata_and_is_upright(tmp_path: Path) -> None:
    explanation, sample = shapes(tmp_path)
    path = tmp_path / "turned.jpg"
    picture = Image.effect_noise((1200, 800), 60).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by a quarter
    exif[0x010E] = "a secret place"
    exif.get_ifd(0x8825).update({1: "N", 2: (52.0, 31.0, 7.0), 29: "secret:day"})  # GPS
    picture.save(path, exif=exif)
    html = report.render([explanation], [replace(sample, inputs={"text": CAPTION, "image": path})])
    (card,) = page_data(html)
    kind, payload = card["inputs"][1]["picture"].split(",", 1)
    raw = base64.b64decode(payload)
    assert kind == "data:image/jpeg;base64"
    assert b"secret" not in raw
    assert Image.open(io.BytesIO(raw)).size == (427, 640)


def test_right_and_wrong(tmp_path: Path) -> None:
    explanation, sample = shapes(tmp_path)
    wrong = replace(explanation, probabilities=(0.2, 0.9, 0.9, 0.1))
    unknown, no_labels = text_only("x")
    assert page_data(report.render([explanation], [sample]))[0]["right"] is True
    assert page_data(report.render([wrong], [sample]))[0]["right"] is False
    unknown, no_labels = replace(unknown, labels=()), replace(no_labels, labels=())
    assert page_data(report.render([unknown], [no_labels]))[0]["right"] is None


def test_tables_show_figures_and_gaps(tmp_path: Path) -> None:
    explanation, sample = shapes(tmp_path)
    rows = [["a", 0.98765, None, 12345], ["b", float("nan"), np.float64(2), np.int64(3)]]
    table = {"columns": ["label", "x", "y", "n"], "rows": rows, "note": "three seeds"}
    html = report.render([explanation], [sample], metrics={"Accuracy": table})
    assert '<td>a</td><td class="number">0.988</td><td class="number">n/a</td>' in html
    assert '<td class="number">2.000</td><td class="number">3</td>' in html
    assert "12,345" in html
    assert "three seeds" in html


@pytest.mark.parametrize(
    ("table", "message"),
    [({"rows": []}, "columns"), ({"columns": ["a"], "rows": [[1, 2]]}, "row 1: 2 cells")],
)
def test_a_broken_table_is_named(tmp_path: Path, table: dict[str, object], message: str) -> None:
    explanation, sample = shapes(tmp_path)
    with pytest.raises(InputError, match=message):
        report.render([explanation], [sample], metrics={"Accuracy": table})


def test_errors_name_what_is_missing(tmp_path: Path) -> None:
    explanation, sample = shapes(tmp_path)
    with pytest.raises(InputError, match="no explanation"):
        report.write([], [sample], tmp_path / "r.html")
    with pytest.raises(InputError, match=r"shapes-0001.*its sample is missing"):
        report.write([explanation], [], tmp_path / "r.html")
    with pytest.raises(InputError, match="folder does not exist"):
        report.write([explanation], [sample], tmp_path / "nowhere" / "r.html")
    assert not (tmp_path / "r.html").exists()


def test_the_page_reads_what_json_kept(tmp_path: Path) -> None:
    explanation, sample = shapes(tmp_path)
    again = Explanation.from_json(explanation.to_json())
    assert report.render([again], [sample]) == report.render([explanation], [sample])


def test_words_are_cut_by_character_not_by_utf16() -> None:
    text = "👩‍👩‍👧 hält שלום 🇩🇪 e\u0301t"
    explanation, sample = text_only(text)
    view = page_data(report.render([explanation], [sample]))[0]["views"][0]
    words = [p[0] for p in view["drawings"][0]["pieces"] if p[1] >= 0]
    assert words == [p.name for p in word_players(text)]


def test_a_content_notice_stands_before_everything_else_and_stays_text(tmp_path: Path) -> None:
    explanation, sample = shapes(tmp_path)
    assert "Content notice" not in report.render([explanation], [sample])
    html = report.render([explanation], [sample], notice="Hateful <script>tweets</script>.")
    assert "Hateful &lt;script&gt;tweets&lt;/script&gt;." in html
    assert html.index("Content notice") < html.index('<section class="legend"')
