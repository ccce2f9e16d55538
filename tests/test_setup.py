"""The first cell of every notebook, run alone as on a new machine, and what it calls."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from IPython.core.interactiveshell import InteractiveShell
from packaging.requirements import Requirement

from course_lib import __version__, addresses, setup

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = ROOT / "notebooks" / "01_resnet_from_scratch.ipynb"
LIBRARY = ("__init__.py", "addresses.py", "setup.py")
PACKAGES = {**setup.LARGE, **setup.SMALL}

needs_git = pytest.mark.skipif(not shutil.which("git"), reason="needs git")


def set_up_cell() -> str:
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    (source,) = [cell.source for cell in cells if "ADDRESS, TAG" in cell.source]
    return source


def cures() -> list[tuple[list[str], str]]:
    """[(words of an error, what to do about it)], as the table above the cell has them."""
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    (page,) = [cell.source for cell in cells if "<summary>If this cell stops" in cell.source]
    rows = re.findall(r"^\| (`.+`) \| (.+) \|$", page, re.MULTILINE)
    return [(re.findall(r"`([^`]+)`", words), cure) for words, cure in rows]


def copy_library(folder: Path) -> None:
    (folder / "course_lib").mkdir(parents=True)
    for name in LIBRARY:
        shutil.copy(ROOT / "course_lib" / name, folder / "course_lib")


class Machine:
    """A folder with nothing but a notebook, on a machine of its own.

    Python there has the standard library, and empty modules by the names of packages; Kaggle's
    folders lie in ``kaggle``, and the course's address leads to a repository on the disk.
    """

    def __init__(self, root: Path):
        self.here = root / "Übung 1" / "lone"
        self.kaggle = root / "kaggle"
        self.packages = root / "packages"
        self.remote = root / "remote"
        self.here.mkdir(parents=True)
        self.packages.mkdir()
        for name in PACKAGES:
            (self.packages / f"{name}.py").touch()
        self.online = True
        self.path = os.environ["PATH"]
        self.variables = {}

    def publish(self, tag: str = addresses.TAG) -> None:
        copy_library(self.remote)
        git = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", "-C", str(self.remote)]
        for step in (["init", "-q"], ["add", "."], ["commit", "-qm", "x"], ["tag", tag]):
            subprocess.run([*git, *step], check=True)

    def run(self, before: str = "", owner: str = "someone") -> subprocess.CompletedProcess:
        """Run the cell; then print where the library came from."""
        source = set_up_cell().replace('"/kaggle', f'"{self.kaggle.as_posix()}')
        source = source.replace(addresses.REPOSITORY, f"{owner}/course")
        after = "import course_lib\nprint(course_lib.__file__)"

        config = self.here.parent / "gitconfig"
        where = self.remote.as_uri() if self.online else "http://127.0.0.1:1"
        config.write_text(f'[url "{where}"]\n\tinsteadOf = https://github.com/someone/course\n')
        return subprocess.run(
            [sys.executable, "-S", "-c", "\n".join([before, source, after])],
            cwd=self.here,
            env={
                **{k: v for k, v in os.environ.items() if not k.startswith(("GIT_", "KAGGLE_"))},
                "GIT_CONFIG_GLOBAL": str(config),
                "GIT_CONFIG_NOSYSTEM": "1",
                "PYTHONPATH": str(self.packages),
                "PYTHONUTF8": "1",
                "PATH": self.path,
                **self.variables,
            },
            text=True,
            encoding="utf-8",
            capture_output=True,
        )

    def finds(self, folder: Path) -> None:
        done = self.run()
        assert done.returncode == 0, done.stderr
        assert Path(done.stdout.strip()) == folder / "course_lib" / "__init__.py"

    def refuses(self, **options) -> str:
        """The last line of the error."""
        done = self.run(**options)
        assert done.returncode == 1
        assert "During handling" not in done.stderr, "one error, not one within another"
        error = re.split(r"^\w+Error: ", done.stderr, flags=re.MULTILINE)[-1]
        return error.strip()

    def cure(self, **options) -> str:
        """What the page says of the error, above the cell."""
        said = self.refuses(**options)
        (cure,) = [cure for words, cure in cures() if any(word in said for word in words)]
        return cure


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


# --- where the course is --------------------------------------------------------------------------


@needs_git
def test_a_lone_notebook_fetches_the_course_once_and_then_needs_no_network(machine):
    machine.publish()
    machine.finds(machine.here / "course")

    machine.online, machine.path = False, ""
    machine.finds(machine.here / "course")


@needs_git
def test_a_clone_that_was_killed_is_not_in_the_way(machine):
    machine.publish()
    (machine.here / "course.1" / ".git").mkdir(parents=True)
    copy_library(machine.here / "course.1")
    (machine.here / "course.1" / "course_lib" / "setup.py").unlink()
    machine.finds(machine.here / "course")
    assert sorted(os.listdir(machine.here)) == ["course", "course.1"]


@pytest.mark.parametrize("folder", ["..", "course"])
def test_a_course_that_lies_here_is_taken(machine, folder):
    machine.path = ""
    copy_library(machine.here / folder)
    machine.finds((machine.here / folder).resolve())


@pytest.mark.parametrize("layout", ["vision-course", "datasets/owner/vision-course"])
@pytest.mark.parametrize("below", ["", "v-0.1.0", "v-0.1.0/v-0.1.0"])
def test_a_course_attached_on_kaggle_is_taken_in_the_old_layout_and_the_new(machine, layout, below):
    machine.path = ""
    (machine.kaggle / "input" / "tiny" / "tiny" / "train" / "n01").mkdir(parents=True)
    copy_library(machine.kaggle / "input" / layout / below)
    machine.finds(machine.kaggle / "input" / layout / below)


def test_the_cell_can_be_run_again(machine):
    copy_library(machine.here / "course")
    machine.path = ""
    once = f"import sys\nexec({set_up_cell()!r})\nlength = len(sys.path)"
    done = machine.run(before=once)
    assert done.returncode == 0, done.stderr
    paths = machine.run(before=f"{once}\nexec({set_up_cell()!r})\nassert length == len(sys.path)")
    assert paths.returncode == 0, paths.stderr


def test_the_cell_stays_short():
    lines = [line for line in set_up_cell().splitlines() if line.strip()]
    assert len(lines) < 15


# --- what may go wrong ----------------------------------------------------------------------------


def test_without_an_address_nobodys_code_is_fetched(machine):
    owner = addresses.REPOSITORY.split("/")[0]
    assert "no public address yet" in machine.refuses(owner=owner)
    assert "Copy the course's folder" in machine.cure(owner=owner)
    assert os.listdir(machine.here) == []


def test_the_name_of_a_repository_may_have_an_underscore(machine):
    machine.path = ""  # so it comes as far as git
    assert "git" in machine.refuses(owner="someone/image_course")


def test_a_missing_git_is_named(machine):
    machine.path = ""
    assert "git" in machine.refuses() and "Install git" in machine.cure()


@needs_git
def test_a_missing_network_is_named(machine):
    machine.online = False
    said = machine.refuses()
    assert "unable to access" in said and "Kaggle" not in said
    assert os.listdir(machine.here) == []

    cure = machine.cure()
    for part in ("no network", "Connect", "On Kaggle", "*Session options*", "as an input"):
        assert part in cure


@needs_git
def test_a_folder_that_is_in_the_way_is_named(machine):
    machine.publish()
    (machine.here / "course").mkdir()
    (machine.here / "course" / "essay.txt").touch()
    assert "Rename it" in machine.cure()
    assert (machine.here / "course" / "essay.txt").exists()


@needs_git
def test_a_missing_tag_is_named(machine):
    machine.publish(tag="v0.0.1")
    assert f"Remote branch {addresses.TAG} not found" in machine.refuses()
    assert "push its tags" in machine.cure()
    assert os.listdir(machine.here) == []


# What cannot be brought about by everybody, in the words of git and of shells.
SAID = {
    "fatal: could not create work tree dir 'course.7': Read-only file system": "in another one",
    "fatal: could not create work tree dir 'course.7': Permission denied": "in another one",
    "fatal: could not read Username for 'https://github.com': No such device": "Correct `ADDRESS`",
    "remote: Repository not found.": "Correct `ADDRESS`",
    "sh: git: command not found": "Install git",
    "'git' is not recognized as an internal or external command": "Install git",
    "[WinError 183] Cannot create a file when that file already exists: 'course.7' -> 'course'": (
        "Rename it"
    ),
}


@pytest.mark.parametrize("said", SAID)
def test_each_reason_has_one_cure_above_the_cell(said):
    (cure,) = [cure for words, cure in cures() if any(word in said for word in words)]
    assert SAID[said] in cure


@needs_git
def test_what_git_says_arrives_with_the_way_to_its_cure(machine):
    machine.publish(tag="v0.0.1")
    first, *_, last = machine.refuses().splitlines()
    assert first.endswith("see 'If this cell stops', above it.") and last.startswith("fatal: ")


# --- is all there? --------------------------------------------------------------------------------


@pytest.fixture
def pip(monkeypatch):
    """``pip(said)``: it refuses with these words, or installs where they are empty.

    lands: whether what it installs is then found. Returns the list of all orders that it was given.
    Every package is missing at first.
    """
    orders, installed = [], set()

    def pretend(said="", lands=True):
        def run(command, **options):
            orders.append(command)
            installed.update(command if lands and not said else [])
            return SimpleNamespace(returncode=bool(said), stderr=said)

        def missing(packages):
            return [asked for asked in packages.values() if asked not in installed]

        monkeypatch.setattr(setup.subprocess, "run", run)
        monkeypatch.setattr(setup, "missing", missing)
        monkeypatch.setattr(setup, "LARGE", {})
        monkeypatch.setattr(setup, "_left_out", set())
        return orders

    return pretend


def test_where_all_is_there_nothing_is_done_or_said(monkeypatch, capsys):
    monkeypatch.setattr(setup.subprocess, "run", None)
    monkeypatch.setattr(setup, "missing", lambda packages: [])
    setup.prepare(addresses.TAG, *setup.EXTRAS)
    assert capsys.readouterr() == ("", "")


def test_only_what_is_missing_and_asked_for_is_installed_and_nothing_below_it(pip):
    orders = pip()
    setup.prepare(addresses.TAG, "grad-cam")
    asked = [order[order.index("15") + 1 :] for order in orders]
    assert asked == [["filelock>=3.31", "tqdm"], ["ttach==0.0.3", "grad-cam==1.5.7"]]
    assert all("--no-deps" in order for order in orders)


def test_a_package_is_looked_for_without_importing_it(tmp_path, monkeypatch):
    (tmp_path / "explosive.py").write_text("raise ValueError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    assert setup.missing({"explosive": "explosive", "no_such_thing": "thing>=2"}) == ["thing>=2"]


@pytest.mark.parametrize("platform, names", [("local", "-r "), ("Colab", '"torch" "torchvision"')])
def test_a_missing_torch_is_named_and_not_installed(monkeypatch, platform, names):
    """On Colab and Kaggle never by the whole file, which could replace what runs there."""
    monkeypatch.setattr(setup.subprocess, "run", None)
    monkeypatch.setattr(setup, "missing", lambda packages: [n for n in packages if "torch" in n])
    monkeypatch.setattr(setup, "detect_platform", lambda: platform)
    with pytest.raises(RuntimeError, match="Missing in this Python") as caught:
        setup.prepare(addresses.TAG)
    assert f"%pip install {names}" in str(caught.value)


@pytest.mark.parametrize("tag", ["v0.0.9", __version__])
def test_a_library_of_another_version_is_named_with_its_place(tag):
    with pytest.raises(RuntimeError) as caught:
        setup.prepare(tag)
    for part in (f"version {tag}", f"v{__version__}", str(ROOT), "restart the kernel"):
        assert part in str(caught.value)


# As pip 23 to 26 said it when each was brought about.
REFUSALS = {
    "there is no network": (
        "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError("
        "Failed to establish a new connection: [Errno -3] Temporary failure in name resolution)'\n"
        "ERROR: No matching distribution found for grad-cam==1.5.7\n"
        "error: subprocess-exited-with-error"
    ),
    "this Python has no pip": "/venv/bin/python: No module named pip",
    "(PEP 668)": "error: externally-managed-environment\n\n× This environment is …",
    "packages cannot be written": (
        "ERROR: Could not install packages due to an OSError: [Errno 30] Read-only file system: 'x'"
    ),
    "its build failed (RuntimeError: no compiler)": (
        "  error: subprocess-exited-with-error\n  RuntimeError: no compiler\n  [end of output]"
    ),
    "pip says 'ERROR: No matching distribution found for ttach==99'": (
        "ERROR: Could not find a version\nERROR: No matching distribution found for ttach==99\n"
    ),
}


@pytest.mark.parametrize("cause", REFUSALS)
def test_each_refusal_of_pip_has_its_name_and_a_cure(pip, cause):
    pip(REFUSALS[cause])
    refusal = setup.install({"pytorch_grad_cam": "grad-cam==1.5.7"})
    assert refusal.startswith("grad-cam==1.5.7 could not be installed: ") and cause in refusal
    assert re.search(r"(Connect|In a cell:|Make an environment|Run this cell again)", refusal)


def test_what_lands_where_this_python_does_not_look_yet_needs_a_restart(pip):
    """pip makes the user's own folder of packages, which Python takes up when it begins."""
    pip(lands=False)
    assert "restart the kernel" in setup.install({"tqdm": "tqdm"})


def test_without_tqdm_the_course_does_not_begin(pip):
    pip(REFUSALS["there is no network"])
    with pytest.raises(RuntimeError, match="tqdm could not be installed: there is no network"):
        setup.prepare(addresses.TAG)


def test_without_a_package_to_compare_with_its_cells_are_left_out_in_words(
    pip, monkeypatch, capsys
):
    pip(REFUSALS["there is no network"])
    monkeypatch.setattr(setup, "SMALL", {})
    monkeypatch.setattr("IPython.get_ipython", lambda: shell)
    shell = InteractiveShell()

    for _ in range(2):  # the set-up cell is run again
        setup.prepare(addresses.TAG, "torch-lr-finder")
    assert "torch-lr-finder==0.2.2 could not be installed" in capsys.readouterr().out

    shell.run_cell("# needs torch-lr-finder\n1 / 0").raise_error()
    assert capsys.readouterr().out == "Left out: torch-lr-finder is not installed.\n"
    assert shell.run_cell("x = 1\n# needs torch-lr-finder\nx + 1").result == 2
    assert shell.run_cell("# needs grad-cam\n3").result == 3

    monkeypatch.setattr(setup, "missing", lambda packages: [])  # with a network it is there
    setup.prepare(addresses.TAG, "torch-lr-finder")
    assert shell.run_cell("# needs torch-lr-finder\n4").result == 4


# --- what it stands on ----------------------------------------------------------------------------


def test_the_standard_library_is_all_that_is_needed_before_the_packages_are_there():
    script = "import course_lib.setup, course_lib.addresses"
    subprocess.run([sys.executable, "-S", "-c", script], cwd=ROOT, check=True)


def test_what_is_installed_is_what_the_requirements_ask_for():
    lines = [line.split("#")[0].strip() for line in (ROOT / "requirements.txt").open()]
    asked = {r.name: r for r in map(Requirement, filter(None, lines))}
    groups = (setup.LARGE, setup.SMALL, *setup.EXTRAS.values())
    for wanted in (Requirement(text) for group in groups for text in group.values()):
        if wanted.name == "ttach":
            continue  # grad-cam asks for it
        for exact in wanted.specifier:
            assert exact.operator in ("==", ">=")
            assert asked[wanted.name].specifier.contains(exact.version), wanted.name
