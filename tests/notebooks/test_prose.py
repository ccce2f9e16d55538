"""Every number in prose that comes from a run is drawn from its record; others are known facts."""

import pytest
from prose import PAGES, TRIALS, facts_of, faults, prose
from rules import ROOT, markdown, read

README = ROOT / "README.md"
SESSION_2 = ROOT / "notebooks" / "02_made_up.ipynb"  # a page that knows a fact: 80 %, an example


def text(page):
    return markdown(read(page)) if page.suffix == ".ipynb" else page.read_text(encoding="utf-8")


@pytest.mark.parametrize("page", [README, TRIALS], ids=lambda page: page.name)
def test_a_page_draws_every_number_of_a_run(page):  # notebooks: a rule in rules.py
    assert not list(faults(text(page), page))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_fact_is_still_told_on_its_page(page):
    told = prose(text(page))
    gone = [fact for fact in facts_of(page) if fact not in told]
    assert not gone, "the page says so no more: delete it"


def test_a_page_may_have_no_facts():
    assert facts_of(ROOT / "notebooks" / "99_made_up.ipynb") == {}


@pytest.mark.parametrize(
    "number",
    [
        "55.6 %",
        "56 %",
        "55.6%",
        "55.6 ± 0.3 %",
        "49.7 minutes",
        "50 min",
        "1 hour",
        "12 s",
        "3 ms",
        "350 pictures/s",
        "1,350 pictures a second",
        "0.82",
        "1 original epoch",
        "3.0 ×",
        "3×",
        "8 times",
        "1.4 points",
        "2 seconds",
    ],
)
def test_a_number_that_nobody_drew_is_found(number):
    (fault,) = faults(f"The recipe reaches {number}, as measured.", SESSION_2)
    assert number in fault


@pytest.mark.parametrize(
    "line",
    [
        "It reaches <!-- run: tiny_imagenet top1 -->55.6 %<!-- end -->.",
        "It took <!-- run: x minutes -->50<!-- end --> minutes.",
        "<!-- table: runs tiny_imagenet -->\n| run | 55.6 % |\n<!-- end -->",
        "<!-- figure: x -->\n![from 14.6 % to 54.5 %](x.png)\n<!-- end -->",
        "ten epochs of 64 pixels, a 3×3 convolution, 3 × 3 places, ResNet-18, 200 classes",
        "`lr=0.4`, $w = 0.2$, $$0.3$$",
        "```\n55.6 %\n```",
        '[a](x0.5.html) <img width="0.5">',
        "version 2.0.8, arXiv:1708.07120",
        "*Difficulty 2 of 5 · importance 4 of 5 · about 15 minutes*",
        "A network that says 80 % should be right.",
    ],
)
def test_what_was_not_measured_or_is_drawn_is_left_alone(line):
    assert not list(faults(line, SESSION_2))


@pytest.mark.parametrize(
    "line",
    [
        "from <!-- run: x top1 -->55.6 %<!-- end --> to 57.1 %",
        "*Difficulty 2 of 5 · about 15 minutes*\n\nIt reaches 57.1 %.\n\n*so far*",
        "A network that says 80 % should be right in 57.1 % of cases",
    ],
)
def test_a_number_beside_a_drawn_one_or_a_fact_is_found(line):
    (fault,) = faults(line, SESSION_2)
    assert "57.1 %" in fault


def test_a_fact_holds_on_its_own_page_only():
    (fault,) = faults("A network that says 80 % should be right.", README)
    assert "80 %" in fault and "facts/readme.py" in fault


@pytest.mark.parametrize("start", ["", "- ", "  1. ", "> "])
def test_a_marker_does_not_begin_a_line(start):
    marked = f"Text.\n\n{start}<!-- run: x top1 -->55.6 %<!-- end --> is reached."
    (fault,) = faults(marked, SESSION_2)
    assert "run: x top1" in fault and "put a word before it" in fault
