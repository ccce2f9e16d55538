"""``make drift``: lists of what Colab and Kaggle ship, and what is done with them."""

import importlib.util
import json
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
from packaging.requirements import Requirement

from course_lib.experiments import record as records
from course_lib.report.tables import table
from course_lib.setup import EXTRAS

ROOT = Path(__file__).resolve().parents[1]
LISTS = sorted((ROOT / "tests" / "platforms").glob("*.txt"))

place = ROOT / "tests" / "platforms" / "drift.py"
spec = importlib.util.spec_from_file_location("drift", place)
drift = importlib.util.module_from_spec(spec)
spec.loader.exec_module(drift)

# Older there than we ask for, and never replaced by the notebooks. A lock may then outlive a killed
# training, until the workers that it forked are gone too.
KNOWN_TO_BE_OLDER = {"filelock"}


def pins(path):
    lines = [line.split("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines()]
    found = [Requirement(line) for line in lines if line]
    return {each.name: str(each.specifier).removeprefix("==").replace("*", "0") for each in found}


# --- the lists ------------------------------------------------------------------------------------


def test_both_platforms_are_listed_with_date_and_source():
    assert [path.stem for path in LISTS] == ["colab", "kaggle"]
    for path in LISTS:
        about = drift.read_header(path)
        assert about["python"] in ("3.12", "3.13") and about["date"] >= "2026-05"
        assert "github.com" in about["source"]
        assert pins(path)["ipython"] == "7.34.0", "which loses the messages of SystemExit"


@pytest.mark.parametrize("path", LISTS, ids=lambda path: path.stem)
def test_what_a_platform_ships_is_what_the_course_asks_for(path):
    shipped = pins(path)
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    asked = [Requirement(line) for line in lines if line and not line.startswith("#")]

    older = {each.name for each in asked if shipped.get(each.name, "") not in each.specifier}
    older &= shipped.keys()
    assert older == KNOWN_TO_BE_OLDER


def test_what_is_fetched_is_what_the_notebooks_fetch_and_the_platforms_lack():
    extras = [asked for names in EXTRAS.values() for asked in names.values()]
    for path in LISTS:
        lacking = [asked for asked in extras if Requirement(asked).name not in pins(path)]
        assert sorted(drift.FETCHED) == sorted(lacking)


# --- the command ----------------------------------------------------------------------------------


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A checkout with two notebooks and a list; no process is started, its order is noted."""
    (tmp_path / "notebooks").mkdir()
    for name in ("01_one", "02_two"):
        (tmp_path / "notebooks" / f"{name}.ipynb").touch()
    shipped = tmp_path / "colab.txt"
    shipped.write_text("# python: 3.13\n# date: 2026-08-19\n# source: a log\ntorch==2.11.0\n")

    versions = dict.fromkeys(("python", *drift.SHOWN), "1.0")
    here = SimpleNamespace(shipped=shipped, orders=[], failing=set())

    def start(command, **how):
        order = " ".join(map(str, command))
        here.orders.append(order)
        failed = any(part in order for part in here.failing)
        if failed and how.get("check"):
            raise subprocess.CalledProcessError(1, command)
        return SimpleNamespace(returncode=int(failed), stdout=json.dumps(versions))

    (tmp_path / "figures" / "results").mkdir(parents=True)
    monkeypatch.setattr(drift, "HERE", tmp_path)
    monkeypatch.setattr(drift, "REPO", tmp_path)
    monkeypatch.setattr(drift, "RECORD", tmp_path / "figures" / "results" / "platforms.json")
    monkeypatch.setattr(drift.subprocess, "run", start)
    monkeypatch.setattr(drift, "interpreter", lambda version: f"python{version}")
    return here


def watch(home):
    return drift.main(["--home", str(home / "drift folder")])


def test_what_is_shipped_is_installed_then_what_is_fetched_then_each_notebook_runs(
    machine, tmp_path
):
    assert watch(tmp_path) == 0
    steps = ["python3.13 -m venv", f"-r {machine.shipped}", "--no-deps torch-lr-finder", "01_one"]
    found = [next(i for i, order in enumerate(machine.orders) if step in order) for step in steps]
    assert found == sorted(found)
    assert sum("--profile smoke" in order for order in machine.orders) == 2

    record = json.loads(drift.RECORD.read_text())["colab"]
    assert record["shipped"] == "2026-08-19" and set(record["minutes"]) == {"01_one", "02_two"}


def test_a_whole_environment_is_kept_and_another_list_makes_another(machine, tmp_path):
    watch(tmp_path)
    machine.orders.clear()
    watch(tmp_path)
    assert not [order for order in machine.orders if "pip" in order]

    machine.shipped.write_text(machine.shipped.read_text() + "numpy==2.1.3\n")
    watch(tmp_path)
    assert [order for order in machine.orders if "pip" in order]


def test_after_a_failed_install_the_next_call_tries_again(machine, tmp_path):
    machine.failing = {"--no-deps"}
    with pytest.raises(subprocess.CalledProcessError):
        watch(tmp_path)
    machine.failing, machine.orders = set(), []
    assert watch(tmp_path) == 0 and "-m venv" in machine.orders[0]


def test_a_notebook_that_stops_is_a_failure_the_others_run_and_nothing_counts_as_verified(
    machine, tmp_path
):
    drift.RECORD.write_text('{"kaggle": {"shipped": "2026-05-14"}}')
    machine.failing = {"--notebook 01_one"}
    assert watch(tmp_path) == 1
    assert "--notebook 02_two" in machine.orders[-1]
    assert list(json.loads(drift.RECORD.read_text())) == ["kaggle"]

    machine.failing = set()
    assert watch(tmp_path) == 0
    assert list(json.loads(drift.RECORD.read_text())) == ["colab", "kaggle"]


def test_an_unknown_platform_is_named_with_the_known_ones(machine, capsys):
    with pytest.raises(SystemExit):
        drift.main(["sagemaker"])
    assert "sagemaker: there are colab" in capsys.readouterr().err


def test_a_python_that_is_not_there_is_asked_for(monkeypatch, tmp_path):
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit, match="no Python 3.99 here"):
        drift.interpreter("3.99")

    python = tmp_path / "versions" / "3.99.1" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()
    assert drift.interpreter("3.99") == str(python)


# --- what readers see -----------------------------------------------------------------------------


def test_the_table_tells_what_was_verified_when(machine, tmp_path, monkeypatch):
    monkeypatch.setattr(records, "RESULTS", drift.RECORD.parent)
    assert table("platforms") == "Not verified yet: `make drift`."

    watch(tmp_path)
    (row,) = [line for line in table("platforms").splitlines() if line.startswith("| Colab")]
    assert "2026-08-19" in row and "| 1, 2 |" in row


def test_the_weekly_watch_runs_each_list_with_its_python():
    watch = (ROOT / ".github" / "workflows" / "watch.yml").read_text(encoding="utf-8")
    assert "make drift PLATFORM=" in watch and "make links" in watch
    for path in LISTS:
        python = drift.read_header(path)["python"]
        assert f'{{ platform: {path.stem}, python: "{python}" }}' in watch
