"""Every address outside of the repository stands in one file, and one command writes it."""

import json
import re
from pathlib import Path

import pytest

from course_lib import __version__, addresses
from course_lib.report import pages

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PAGES = [ROOT / "README.md", *NOTEBOOKS]

ADDRESS = re.compile(r"\bhttps?://[^\s)\"'<>\\]+")
ON_THIS_MACHINE = ("http://127.0.0.1", "http://localhost")
PAPERS = ("https://arxiv.org/abs/", "https://doi.org/")  # named by their numbers, where cited


def known() -> set[str]:
    """Every address of the file, ``{folder}`` and the name of a notebook left open."""
    found = set()
    for value in vars(addresses).values():
        texts = value if isinstance(value, tuple | list | dict) else [value]
        found |= {text for text in texts if isinstance(text, str) and text.startswith("http")}
    return found | {image for _, image in addresses.BADGES.values()}


def written() -> list[Path]:
    """What a learner or a machine reads; tests make up addresses of their own."""
    folders = ["course_lib", "notebooks", "data", "figures", ".github", "tests/platforms"]
    deep = [path for folder in folders for path in (ROOT / folder).rglob("*")]
    endings = {".py", ".md", ".ipynb", ".yml", ".txt"}
    files = [
        path for path in deep if path.suffix in endings and ".ipynb_checkpoints" not in str(path)
    ]
    top = [path for path in ROOT.iterdir() if path.suffix in {".md", ".toml", ".txt"}]
    return [*files, *top, ROOT / "Makefile"]


def outside(path: Path) -> set[str]:
    text = path.read_text(encoding="utf-8")
    found = {address.rstrip(".,;`") for address in ADDRESS.findall(text)}
    return {address for address in found if not address.startswith((*ON_THIS_MACHINE, *PAPERS))}


def is_known(address: str) -> bool:
    opens_a_notebook = (addresses.COLAB, addresses.KAGGLE)
    return address in known() or address.startswith(opens_a_notebook)


def test_no_address_stands_outside_the_file():
    stray = {
        (str(path.relative_to(ROOT)), address)
        for path in written()
        if path.name != "addresses.py"
        for address in outside(path)
        if not is_known(address)
    }
    assert stray == set(), "list it in course_lib/addresses.py, with its purpose"


def test_every_page_that_is_listed_is_linked_to():
    text = "".join(path.read_text(encoding="utf-8") for path in written())
    assert [page for page in addresses.PAGES if text.count(page) < 2] == []


def test_the_version_is_the_same_everywhere():
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f'\nversion = "{__version__}"\n' in project and addresses.TAG == f"v{__version__}"


# --- badges and clone -----------------------------------------------------------------------------


def leads_to(path: Path) -> set[tuple[str, str]]:
    """(owner/name, tag) of every badge, and of what the set-up cell fetches."""
    text = path.read_text(encoding="utf-8").replace('\\"', '"')
    badges = re.findall(r"github(?:\.com)?/([\w.-]+/[\w.-]+)/blob/([^/\s]+)/notebooks/", text)
    fetched = re.findall(r'ADDRESS, TAG = "https://github.com/([^"]+)", "([^"]+)"', text)
    assert len(badges) >= 2 and len(fetched) == (path.suffix == ".ipynb")
    return {*badges, *fetched}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_badges_and_clone_lead_to_one_repository_at_one_tag(page):
    assert leads_to(page) == {(addresses.REPOSITORY, addresses.TAG)}


def test_readme_has_both_badges_of_every_notebook():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for notebook in NOTEBOOKS:
        for name, (link, image) in addresses.BADGES.items():
            assert f"[![{name}]({image})]({link}{notebook.name})" in readme


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_a_fork_is_written_into_every_page_and_nothing_of_the_old_one_stays(
    page, monkeypatch, tmp_path
):
    old, new = addresses.REPOSITORY, "me/my-course"
    for name in ("CLONE", "COLAB", "KAGGLE"):
        moved = getattr(addresses, name).replace(old, new).replace(addresses.TAG, "v7.8.9")
        monkeypatch.setattr(addresses, name, moved)
    monkeypatch.setattr(addresses, "TAG", "v7.8.9")
    monkeypatch.setattr(pages, "_draw", lambda match, root: match[0])

    text = page.read_text(encoding="utf-8")
    is_notebook = page.suffix == ".ipynb"
    forked = pages.fill_notebook(text) if is_notebook else pages.fill(text)
    copy = tmp_path / page.name
    copy.write_text(forked, encoding="utf-8")

    assert leads_to(copy) == {(new, "v7.8.9")} and old not in forked
    if is_notebook:
        before, after = (len(json.loads(each)["cells"]) for each in (text, forked))
        assert before == after


def test_as_long_as_the_address_is_made_up_nobody_can_register_it():
    """GitHub's names of owners have letters, digits and hyphens. A real address has none such."""
    owner, name = addresses.REPOSITORY.split("/")
    assert name and ("_" in owner or re.fullmatch(r"[A-Za-z0-9](-?[A-Za-z0-9])*", owner))
    assert addresses.REPOSITORY != "vision-course/vision-course", "somebody else's to take"
