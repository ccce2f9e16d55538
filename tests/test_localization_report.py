"""Graded maps as tables and as a figure, from made-up records."""

import numpy as np
import pytest
from made_up import a_grade, a_map, graded_maps
from matplotlib.text import Text
from PIL import Image

from course_lib import plots
from course_lib.experiments import record as records
from course_lib.experiments.localize import IN_WORDS
from course_lib.files import CourseError, write_json
from course_lib.report import figures, pages
from course_lib.report.tables import localization_table, localization_toys_table

MIDDLE = "spot in the middle"
REMOVAL = {"n": 100, "steps": 8}
SMALL = {"n": 250} | {
    grade: a_grade(0.35, 0.02, over_middle=0.06, over_middle_error=0.02)
    for grade in ("pointing game", "energy", "IoU")
}
MAPS = {
    # as they come where a study went on later: out of order
    "layercam": a_map("LayerCAM", 0.81, 0.66, over_middle=0.04, seconds=5),
    "chance": a_map("chance", 0.53, 0.53, over_middle=-0.2, seconds=0.01),
    "scorecam": a_map("ScoreCAM", 0.7, 0.6, n=24, over_middle=-0.05, seconds=96),
    "middle": a_map("spot in the middle", 0.79, 0.64, over_middle_error=0.0, seconds=0.01),
    "gradcam": a_map(
        "Grad-CAM",
        small=SMALL,
        by_pixels=REMOVAL
        | {
            "deletion": a_grade(0.2, 0.012, over_middle=-0.03, over_middle_error=0.01),
            "insertion": a_grade(0.6, 0.02, over_middle=0.02, over_middle_error=0.02),
        },
    ),
}


pytestmark = pytest.mark.usefixtures("repository")


def commit(record):
    name = f"{record['weights']}-{record['picture_size']}px.json"
    write_json(records.RESULTS / "localization" / name, record)


def cells(table, start):
    """Those of each row that begins so."""
    rows = [line for line in table.splitlines() if line.startswith(f"| {start} |")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


# --- tables ---------------------------------------------------------------------------------------


def test_a_row_shows_grades_leads_over_the_middle_and_time():
    commit(graded_maps(MAPS))
    table = localization_table()

    (layercam,) = cells(table, "LayerCAM")
    lead = "+8.0"  # 0.04 / 0.005
    grades = ["81.0 ± 1.0", lead, "66.0 ± 1.0", lead, "30.0 ± 1.0", lead]
    assert layercam == ["LayerCAM", "1,000", *grades, "5.0"]

    (scorecam,) = cells(table, "ScoreCAM")
    assert scorecam[1] == "24" and scorecam[3] == "-10.0" and scorecam[-1] == "4000.0"


def test_baselines_stand_on_top_without_a_time_and_the_middle_leads_by_nothing():
    commit(graded_maps(MAPS))
    rows = localization_table().splitlines()[4:9]
    names = ["chance", MIDDLE, "Grad-CAM", "LayerCAM", "ScoreCAM"]
    assert [row.strip("| ").split(" | ")[0] for row in rows] == names

    (chance,), (middle,) = (cells(localization_table(), name) for name in ("chance", MIDDLE))
    assert chance[3] == "-40.0" and chance[-1] == middle[-1] == "–"
    assert middle[2:4] == ["79.0 ± 1.0", "–"]


def test_less_is_better_by_deletion_so_its_lead_is_turned_round():
    commit(graded_maps(MAPS))
    *_, by_pixels = cells(localization_table(), "Grad-CAM")
    assert by_pixels == ["Grad-CAM", "100", "20.0 ± 1.2", "+3.0", "60.0 ± 2.0", "+1.0"]


def test_small_objects_have_a_table_of_their_own():
    commit(graded_maps(MAPS))
    _, small, _ = cells(localization_table(), "Grad-CAM")
    assert small == ["Grad-CAM", "250", *["35.0 ± 2.0", "+3.0"] * 3]


def test_each_network_and_size_has_a_table_of_its_own():
    commit(graded_maps(MAPS))
    commit(graded_maps({"middle": MAPS["middle"]}, picture_size=128))

    table = localization_table()
    assert table.count("**session ResNet, TinyImageNet at 64 px** (a laptop)") == 1
    assert table.count("**session ResNet, TinyImageNet at 128 px** (a laptop)") == 1
    assert len(cells(table, MIDDLE)) == 2 and len(cells(table, "chance")) == 1


def test_toy_shapes_never_stand_beside_real_pictures():
    toys = {"is_real": False, "dataset": "toy shapes", "weights": "session_resnet_toyshapes"}
    commit(graded_maps({"gradcam": a_map("Grad-CAM", 0.987)}, **toys))
    assert "98.7" not in localization_table() and "98.7" in localization_toys_table()
    figures.draw_figures()
    assert not (figures.FOLDER / "localization.png").exists()

    commit(graded_maps(MAPS))
    assert "toy" not in localization_table() and "TinyImageNet" not in localization_toys_table()


def test_smoke_is_not_shown():
    commit(graded_maps({"gradcam": a_map("Grad-CAM", 0.987)}, profile="smoke"))
    assert "98.7" not in localization_table() + localization_toys_table()


@pytest.mark.parametrize(
    "asked", ["table: localization", "table: localization_toys", "figure: localization"]
)
def test_where_nothing_is_graded_a_line_says_how_to(asked):
    filled = pages.fill(f"<!-- {asked} -->\nold\n<!-- end -->")
    assert "\n*Not graded yet: `python -m course_lib.localize` makes the records.*\n" in filled


def test_a_number_of_a_record_can_stand_in_a_sentence():
    commit(graded_maps(MAPS))
    source = "localization/session_resnet_tinyimagenet-64px"
    marker = f"<!-- run: {source} maps.layercam.pointing game.mean .1% --><!-- end -->"
    assert ">81.0 %<" in pages.fill(marker)


def test_a_record_of_another_kind_in_the_folder_is_named():
    write_json(records.RESULTS / "localization" / "odd.json", {"maps": {}})
    with pytest.raises(CourseError, match="odd.json is no record.*lacks dataset"):
        localization_table()


# --- the figure -----------------------------------------------------------------------------------


def test_the_figure_is_drawn_in_the_order_of_the_course_and_says_its_numbers():
    commit(graded_maps(MAPS))
    figures.draw_figures()
    assert not figures.stale_figures()

    with Image.open(figures.FOLDER / "localization.png") as image:
        said = image.text["Description"]
    assert "session ResNet, TinyImageNet at 64 px, pointing game: chance 53.0 ± 2.0 %" in said
    assert said.index("Grad-CAM 50.0") < said.index("LayerCAM 81.0 ± 2.0 %")


def test_methods_are_dots_in_their_intervals_and_baselines_are_lines():
    figure = plots.localization({"a": graded_maps(MAPS)}).figure
    point, energy = figure.axes

    dots = point.containers[0]
    methods = [MAPS[key] for key in MAPS if key not in ("chance", "middle")]
    assert list(dots[0].get_xdata()) == [100 * each["pointing game"]["mean"] for each in methods]

    (low, _), (high, _) = dots[2][0].get_segments()[0]
    assert high - low == pytest.approx(2 * 1.96), "an error of one percent point"

    lines = [line.get_xdata()[0] for line in energy.lines if len(set(line.get_xdata())) == 1]
    assert {64.0, 53.0} <= set(np.round(lines, 6))


def test_letters_of_the_figure_stay_apart():
    maps = {key: a_map(words) for key, words in IN_WORDS.items()}
    figure = plots.localization({"a": graded_maps(maps), "b": graded_maps(MAPS)}).figure
    figure.draw_without_rendering()
    assert figure.axes[1].get_position().width > 0.25, "room for the dots"
    for ax in figure.axes[::2]:
        boxes = [label.get_window_extent() for label in ax.get_yticklabels()]
        tops = sorted((box.y0, box.y1) for box in boxes)
        assert all(below[1] <= above[0] + 1 for below, above in zip(tops, tops[1:], strict=False))
    sizes = [text.get_fontsize() for text in figure.findobj(Text) if text.get_text()]
    assert min(sizes) >= 12, "10 px where a telephone shows it at 400"


def test_a_figure_of_no_method_is_an_error():
    with pytest.raises(ValueError, match="at least one record"):
        plots.localization({})
    with pytest.raises(ValueError, match="'a' holds no method"):
        plots.localization({"a": graded_maps({"middle": MAPS["middle"]})})
