"""Do the notebooks still run on what Colab and Kaggle ship?

    python tests/platforms/drift.py            each platform in turn
    python tests/platforms/drift.py colab      one of them

Beside this file a list for each platform names its Python and its packages, with date and source.
They are installed into an environment of their own, then, without their dependencies, the packages
that the notebooks fetch there, and the notebooks run in the profile smoke. Where all reach their
end, ``figures/results/platforms.json`` says so. The environments take 6 GB each. ``ways.py`` runs
each notebook alone in them, without this checkout.
"""

import argparse
import datetime
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPO = HERE.parents[1]
RECORD = REPO / "figures" / "results" / "platforms.json"  # what was verified last

FETCHED = ("torch-lr-finder==0.2.2", "ttach==0.0.3", "grad-cam==1.5.7")  # by the notebooks
SHOWN = ("torch", "torchvision", "numpy", "ipython", "matplotlib", "albumentations")

HEADER = re.compile(r"^# (python|date|source): (.+)$", re.MULTILINE)


# --- the command ----------------------------------------------------------------------------------


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code: 1 if a notebook stopped before its end."""
    lists = {path.stem: path for path in sorted(HERE.glob("*.txt"))}
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("platforms", nargs="*", metavar="PLATFORM", help=f"of {', '.join(lists)}")
    parser.add_argument("--home", type=Path, default=REPO / "build" / "drift", help="of the files")
    args = parser.parse_args(arguments)

    unknown = set(args.platforms) - set(lists)
    if unknown:
        parser.error(f"no list for {', '.join(sorted(unknown))}: there are {', '.join(lists)}")

    results = [
        watch(lists[name], args.home / name) for name in lists if name in (args.platforms or lists)
    ]
    return 0 if all(results) else 1


def watch(shipped: Path, home: Path) -> bool:
    """One platform: environment, notebooks, record. False if one stopped before its end."""
    about = read_header(shipped)
    print(f"\n=== {shipped.stem}: as shipped on {about['date']} ({about['source']})", flush=True)

    python = environment(shipped, about["python"], home)
    minutes = {}
    for notebook in sorted((REPO / "notebooks").glob("[0-9][0-9]_*.ipynb")):
        minutes[notebook.stem] = run(python, notebook, home)

    good = None not in minutes.values()
    if good:
        write_record(shipped.stem, about, installed(python), minutes=minutes)
    return good


def read_header(shipped: Path) -> dict[str, str]:
    """Its Python, date and source. SystemExit where one is missing."""
    found = dict(HEADER.findall(shipped.read_text(encoding="utf-8")))
    missing = {"python", "date", "source"} - found.keys()
    if missing:
        sys.exit(f"{shipped} lacks a line '# {min(missing)}: …'")
    return found


# --- its environment ------------------------------------------------------------------------------


def environment(shipped: Path, version: str, home: Path) -> Path:
    """The Python of an environment with what is shipped and fetched; a whole one is kept."""
    bin_folder = "Scripts" if os.name == "nt" else "bin"
    python = home / "venv" / bin_folder / "python"
    stamp = home / "installed.txt"

    wanted = "\n".join([shipped.read_text(encoding="utf-8"), *FETCHED])
    if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return python

    home.mkdir(parents=True, exist_ok=True)
    stamp.unlink(missing_ok=True)
    subprocess.run([interpreter(version), "-m", "venv", "--clear", home / "venv"], check=True)
    install = [python, "-m", "pip", "install", "-q"]
    subprocess.run([*install, "-r", shipped], check=True)
    subprocess.run([*install, "--no-deps", *FETCHED], check=True)

    stamp.write_text(wanted, encoding="utf-8")  # last: a failed install is tried again
    return python


def interpreter(version: str) -> str:
    """A Python of that version: this, on the path, or pyenv's. SystemExit if none."""
    if version == ".".join(map(str, sys.version_info[:2])):
        return sys.executable
    if found := shutil.which(f"python{version}"):
        if subprocess.run([found, "-c", ""], capture_output=True).returncode == 0:
            return found  # pyenv's stand-ins fail for versions that are not chosen

    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    for python in sorted(pyenv.glob(f"versions/{version}.*/bin/python"), reverse=True):
        return str(python)
    sys.exit(f"no Python {version} here: install it, or name one with make PYTHON=…")


def installed(python: Path) -> dict[str, str]:
    """The versions that count, as they are in the environment."""
    code = (
        "import json, platform, sys; from importlib.metadata import version; "
        "print(json.dumps({'python': platform.python_version()} "
        "| {name: version(name) for name in sys.argv[1:]}))"
    )
    done = subprocess.run(
        [python, "-c", code, *SHOWN], check=True, capture_output=True, encoding="utf-8"
    )
    return json.loads(done.stdout)


# --- the notebooks --------------------------------------------------------------------------------


def run(python: Path, notebook: Path, home: Path) -> float | None:
    """The minutes that it took; None if it stopped before its end, and says why."""
    started = time.monotonic()
    command = [python, "notebooks/run.py", "--profile", "smoke", "--notebook", notebook.stem]
    done = subprocess.run([*command, "--out", home / "notebooks"], cwd=REPO)

    minutes = (time.monotonic() - started) / 60
    return round(minutes, 1) if done.returncode == 0 else None


# --- the record -----------------------------------------------------------------------------------


def recorded(name: str, about: dict[str, str]) -> dict:
    """What was seen on this list; nothing of an older one."""
    found = _read_record().get(name, {})
    return found if found.get("shipped") == about["date"] else {}


def write_record(name: str, about: dict[str, str], versions: dict[str, str], **seen) -> None:
    """``seen``, and the versions that it was seen on, beside what is known of this list."""
    head = {"shipped": about["date"], "source": about["source"]}
    if "minutes" in seen:
        head["verified"] = datetime.date.today().isoformat()

    found = _read_record()
    found[name] = recorded(name, about) | head | {"versions": versions} | seen
    text = json.dumps(dict(sorted(found.items())), indent=1) + "\n"
    RECORD.write_text(text, encoding="utf-8", newline="\n")
    print(f"written: {RECORD}")


def _read_record() -> dict:
    return json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)
    sys.exit(main())
