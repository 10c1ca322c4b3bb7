"""The page in a real browser: it works, it is quiet, and it asks nobody for anything."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from report_made import EVIL, draw_shapes, grouped, other_target, shapes, text_only

from fli2moe import report
from fli2moe.data.sample import Sample

pytestmark = pytest.mark.browser
WIDTHS = (1280, 800, 390)


@pytest.fixture
def page_path(tmp_path: Path) -> Path:
    first, sample = shapes(tmp_path)
    second, other = shapes(tmp_path, "shapes-0002", 2)
    table = {"columns": ["a long column name"] * 6, "rows": [[0.5] * 6], "note": "n"}
    return report.write(
        [first, other_target(first), second],
        [sample, other],
        tmp_path / "report.html",
        metrics={"Accuracy": table},
    )


def weights(page: Any) -> list[str]:
    return page.evaluate(
        "[...document.querySelectorAll('[data-part]')]"
        ".map(e => e.style.getPropertyValue('--weight'))"
    )


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_quiet_alone_and_not_wider_than_the_screen(
    visit: Any, page_path: Path, width: int, scheme: str
) -> None:
    opened = visit(page_path, width=width, scheme=scheme)
    assert opened.complaints == []
    assert opened.requests[0].startswith("file:")
    assert all(r.startswith("data:") for r in opened.requests[1:])
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width
    picture = Image.open(io.BytesIO(opened.page.screenshot())).convert("L")
    darkest, brightest = picture.getextrema()
    assert brightest - darkest > 100
    ground = picture.getpixel((2, 2))
    assert ground > 200 if scheme == "light" else ground < 60


@pytest.mark.parametrize("width", WIDTHS)
def test_curves_end_on_their_word_and_patch(visit: Any, page_path: Path, width: int) -> None:
    page = visit(page_path, width=width).page
    misses = page.evaluate("""() => {
      const misses = [];
      for (const curve of document.querySelectorAll('.curve')) {
        const ends = curve.querySelectorAll('.end');
        [curve.dataset.first, curve.dataset.second].forEach((player, k) => {
          const r = ends[k].getBoundingClientRect();
          const x = (r.left + r.right) / 2, y = (r.top + r.bottom) / 2;
          const hit = [...document.querySelectorAll(`[data-player="${player}"]`)].some((e) => {
            const b = e.getBoundingClientRect();
            return x >= b.left && x <= b.right && y >= b.top && y <= b.bottom;
          });
          if (!hit) misses.push([player, x, y]);
        });
      }
      return misses;
    }""")
    assert page.locator(".curve").count() >= 2
    assert misses == []


def test_the_slider_changes_the_number_of_curves(visit: Any, page_path: Path) -> None:
    page = visit(page_path).page
    threshold = page.locator("input[name=threshold]")
    assert (
        threshold.input_value() == "10"
    )  # trifles beside the strongest pair are not shown at first
    threshold.fill("0")
    count = page.locator(".curve").count()
    assert count == 5  # three clear synergies, two clear redundancies
    slider = page.locator("input[name=count]")
    slider.focus()
    slider.press("Home")
    assert page.locator(".curve").count() == 0
    slider.press("ArrowRight")
    assert page.locator(".curve").count() == 2
    assert page.locator(".pair.synergy:visible").count() == 1
    threshold.fill("100")
    assert page.locator(".curve").count() == 1  # the strongest of both kinds stays
    assert "weaker than the slider asks for" in page.locator(".side").inner_text()


def test_hover_and_focus_light_the_partners(visit: Any, page_path: Path) -> None:
    page = visit(page_path).page
    red = page.locator(".word", has_text="red")
    red.hover()
    assert page.locator("#tip").is_visible()
    assert "+1.84" in page.locator("#tip").inner_text()
    assert "rank 1 of 192" in page.locator("#tip").inner_text()
    partners = page.evaluate(
        "[...document.querySelectorAll('.patch.partner')].map(e => e.getAttribute('aria-label'))"
    )
    assert any(label.startswith("patch at the middle right") for label in partners)
    page.mouse.move(5, 5)
    assert not page.locator("#tip").is_visible()
    assert page.locator(".partner").count() == 0
    page.locator("button.pair.redundancy").first.focus()
    assert page.locator(".run.partner").inner_text() == "sunny"
    assert page.locator(".curve.on").get_attribute("data-pair").startswith("redundancy:")


def test_words_of_a_group_have_shades_of_their_own_and_light_up_together(
    visit: Any, tmp_path: Path
) -> None:
    explanation, sample = grouped(tmp_path)
    opened = visit(report.write([explanation], [sample], tmp_path / "report.html"))
    page = opened.page
    assert page.locator(".word").count() == 12
    assert page.locator(".run").count() == 4
    shades = weights(page)
    assert len(shades) == 28
    assert shades[1] == "1.0000"  # red, the strongest word
    assert len(set(shades[:3])) == 3  # a, red and dog are one group
    page.locator(".word", has_text="red").hover()
    assert page.locator(".run.hot").inner_text() == "a red dog"
    assert page.locator(".word.here").inner_text() == "red"
    assert page.locator(".edge.partner").count() == 1
    assert page.locator(".patch.partner").count() == 4
    assert page.locator(".run.hot").evaluate("e => getComputedStyle(e).outlineStyle") == "solid"
    edge = page.locator(".edge.partner")
    assert edge.evaluate("e => getComputedStyle(e).strokeWidth") == "4px"
    box, patches = edge.bounding_box(), page.locator(".patch.partner")
    assert box["width"] == pytest.approx(2 * patches.first.bounding_box()["width"], abs=6)
    tip = page.locator("#tip").inner_text()
    assert tip.startswith("red\n")
    assert "rank 1 of 12" in tip
    assert "“a red dog”" in tip
    assert "+1.20" in tip
    patches.nth(3).hover()
    assert page.locator("#tip").inner_text().startswith("patch at the middle right")
    assert page.locator(".run.partner").inner_text() == "a red dog"
    page.locator(".word", has_text="red").focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("#tip").inner_text().startswith("dog\n")
    assert opened.complaints == []


def test_a_space_inside_a_group_keeps_it_lit(visit: Any, tmp_path: Path) -> None:
    explanation, sample = grouped(tmp_path)
    page = visit(report.write([explanation], [sample], tmp_path / "report.html")).page
    first, second = (page.locator(".word").nth(k).bounding_box() for k in (0, 1))
    middle = first["y"] + first["height"] / 2
    page.locator(".word").first.hover()
    page.mouse.move((first["x"] + first["width"] + second["x"]) / 2, middle)
    assert page.locator(".run.hot").count() == 1
    page.mouse.move(second["x"] + second["width"] + 4, middle + 60)
    assert page.locator(".run.hot").count() == 0


def test_uncertain_pairs_fold_into_one_line(visit: Any, tmp_path: Path) -> None:
    explanation, sample = grouped(tmp_path)
    page = visit(report.write([explanation], [sample], tmp_path / "report.html")).page
    page.locator("input[name=threshold]").fill("0")
    panel = page.locator(".pairs.synergy")
    assert "4 of 16 pairs measured twice" in panel.inner_text()
    assert "in 40 fresh surroundings" in panel.inner_text()
    listed = panel.locator("> ol .pair").count()
    folded = panel.locator(".uncertain .pair")
    assert listed + folded.count() == 3
    assert folded.count() > 0
    assert not folded.first.is_visible()
    curves = page.locator(".curve").count()
    assert curves == listed
    panel.locator("summary", has_text="too uncertain to tell").click()
    folded.first.hover()
    assert page.locator(".curve").count() == curves + 1  # on demand


def test_arrow_keys_walk_over_words_and_patches(visit: Any, page_path: Path) -> None:
    page = visit(page_path).page
    page.locator(".word").first.focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.textContent") == "red"
    assert page.locator(".run.hot").inner_text() == "red"
    page.locator(".patch").first.focus()
    page.keyboard.press("ArrowDown")
    label = page.evaluate("document.activeElement.getAttribute('aria-label')")
    assert label.startswith("patch at the middle left")


def test_the_head_chooser_changes_the_shading(visit: Any, page_path: Path) -> None:
    page = visit(page_path).page
    before = weights(page)
    page.locator("input[name=head][value=redundancy]").check()
    assert weights(page) != before
    assert max(map(float, weights(page))) == 1.0
    assert "read on mixture" in page.locator(".pairs.synergy").inner_text()
    assert "read on redundancy" in page.locator(".pairs.redundancy").inner_text()


def test_another_target_and_another_sample(visit: Any, page_path: Path) -> None:
    page = visit(page_path).page
    page.locator("input[name=target][value='1']").check()
    assert "No clear synergy" in page.locator(".pairs.synergy").inner_text()
    assert "the planted pair is first" in page.locator(".truth-panel").inner_text()
    page.keyboard.press("Escape")
    page.locator("#gallery a").nth(1).click()
    page.wait_for_selector("h2:has-text('shapes-0002')")
    page.keyboard.press("k")
    page.wait_for_selector("h2:has-text('shapes-0001')")


def test_injected_script_does_not_run(visit: Any, tmp_path: Path) -> None:
    path = draw_shapes(tmp_path / "<img src=x onerror=alert(1)>.png")
    explanation, sample = shapes(tmp_path)
    explanation = replace(
        explanation,
        sample_id=EVIL,
        target=EVIL,
        classes=(EVIL, *explanation.classes[1:]),
        labels=(EVIL,),
        notes=(EVIL,),
    )
    sample = Sample(EVIL, {"text": sample.inputs["text"], "image": path}, (EVIL,))
    plain, plain_sample = text_only(EVIL, "javascript:alert(1)")
    opened = visit(
        report.write(
            [explanation, plain], [sample, plain_sample], tmp_path / "evil.html", title="T"
        )
    )
    page = opened.page
    for player in page.locator(".word").all()[:3]:
        player.hover()
    page.locator("#gallery a").nth(1).click()
    page.wait_for_selector("h2:has-text('javascript')")
    assert page.locator(".running").inner_text() == EVIL
    assert page.title() == "T"
    assert page.locator("img[src=x]").count() == 0
    assert opened.complaints == []
    assert all(r.startswith(("file:", "data:")) for r in opened.requests)


def test_an_unreadable_picture_and_missing_errors_still_draw(visit: Any, tmp_path: Path) -> None:
    explanation, sample = shapes(tmp_path)
    Path(sample.inputs["image"]).unlink()
    scores = explanation.pairs["synergy"]
    pairs = {"synergy": replace(scores, standard_error=np.full(len(scores), np.nan))}
    opened = visit(
        report.write([replace(explanation, pairs=pairs)], [sample], tmp_path / "report.html")
    )
    assert "cannot be shown" in opened.page.locator(".picture").inner_text()
    assert "not known" in opened.page.locator(".pairs.synergy").inner_text()
    assert opened.page.locator(".curve").count() == 3
    assert opened.complaints == []


@pytest.mark.parametrize("text", ["", "just two"])
def test_a_text_without_pairs(visit: Any, tmp_path: Path, text: str) -> None:
    explanation, sample = text_only(text)
    opened = visit(report.write([explanation], [sample], tmp_path / "report.html"))
    assert "No pairs were measured" in opened.page.locator(".side").inner_text()
    assert opened.page.locator(".word").count() == len(text.split())
    assert opened.page.locator(".experts").count() == 0  # a dense model has none to compare
    assert opened.complaints == []


def test_right_to_left_text_keeps_its_order(visit: Any, tmp_path: Path) -> None:
    explanation, sample = text_only("שלום עולם")
    page = visit(report.write([explanation], [sample], tmp_path / "report.html")).page
    first, second = (page.locator(".word").nth(k).bounding_box() for k in (0, 1))
    assert first["x"] > second["x"]


def test_it_prints(visit: Any, page_path: Path) -> None:
    opened = visit(page_path)
    printed = opened.page.pdf(print_background=True)
    assert printed.startswith(b"%PDF")
    opened.page.emulate_media(media="print")
    assert not opened.page.locator(".controls").is_visible()
    assert opened.complaints == []


def many(folder: Path, count: int) -> Path:
    made = [shapes(folder, f"shapes-{k:04d}", k % 7) for k in range(count)]
    answers = [
        replace(
            e,
            probabilities=(0.1, 0.9, 0.2, 0.1) if k % 3 else e.probabilities,
            labels=("sunny day",) if k % 3 else e.labels,
            expert_shares={**e.expert_shares, "redundancy": 0.9 if k % 2 else 0.1},
        )
        for k, (e, _) in enumerate(made)
    ]
    return report.write(answers, [s for _, s in made], folder / "many.html")


def test_filters_and_pages_find_a_sample(visit: Any, tmp_path: Path) -> None:
    opened = visit(many(tmp_path, 130))
    page = opened.page
    visible = page.locator("#gallery li:visible")
    assert visible.count() == 50
    assert page.locator("#page-of").inner_text() == "1–50 of 130"
    assert page.locator("#earlier").is_disabled()
    page.locator("#later").click()
    page.locator("#later").click()
    assert visible.count() == 30
    assert page.locator("#later").is_disabled()
    page.locator("#of-expert").select_option(label="Redundancy")
    assert page.locator("#page-of").inner_text() == "1–50 of 65"
    page.locator("#of-class").select_option(label="a dog")
    assert visible.count() == 22  # every sixth, from 3
    page.locator("#find").fill("shapes-0009")
    assert visible.count() == 1
    visible.first.locator("a").click()
    assert "shapes-0009" in page.locator("#card").inner_text()
    page.locator("#find").fill("no such")
    assert page.locator("#none-found").is_visible()
    page.goto(page.url.split("#")[0] + "#sample-120")
    assert "shapes-0119" in page.locator("#card").inner_text()
    assert opened.complaints == []


def test_keys_step_over_what_the_filters_leave(visit: Any, tmp_path: Path) -> None:
    page = visit(many(tmp_path, 60)).page
    page.locator("#of-class").select_option(label="a dog")
    page.locator("#card").focus()
    page.keyboard.press("j")
    page.wait_for_url("**#sample-4")
    assert "shapes-0003" in page.locator("#card").inner_text()
    page.keyboard.press("k")
    page.wait_for_url("**#sample-1")
