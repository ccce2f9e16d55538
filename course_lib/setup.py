"""The end of every notebook's first cell: is all there that it needs?

The cell finds the course, or fetches it, and calls ``prepare``. Only the standard library is
imported here: on Colab and Kaggle nothing of the course's own is installed yet.
"""

import importlib
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

from course_lib import __version__

COURSE = Path(__file__).resolve().parents[1]
KAGGLE_OUTPUT = Path("/kaggle/working")

# By the name of the import: what pip calls it.
# Other versions of these break a running kernel, or take another torch with them: a notebook
# installs none of them.
LARGE = {
    "torch": "torch",
    "torchvision": "torchvision",
    "numpy": "numpy",
    "matplotlib": "matplotlib",
    "PIL": "pillow",
    "albumentations": "albumentations==2.0.8",
}
# All that these depend on is among the large ones, or needed by nothing here.
SMALL = {"filelock": "filelock>=3.31", "tqdm": "tqdm"}
EXTRAS = {  # only comparisons, and published weights, need these
    "torch-lr-finder": {"torch_lr_finder": "torch-lr-finder==0.2.2"},
    "grad-cam": {"ttach": "ttach==0.0.3", "pytorch_grad_cam": "grad-cam==1.5.7"},
    "safetensors": {"safetensors": "safetensors>=0.4.3"},
}

_left_out: set[str] = set()


def prepare(tag: str, *extras: str) -> None:
    """Hold the notebook's version against the library's, and install what is small and missing.

    tag: the notebook's version, such as "v0.1.0". extras: names in ``EXTRAS``. One that cannot be
    had is named with its reason, and the cells that begin with ``# needs <name>`` are left out.

    Silent where all is well. Raises RuntimeError, with the cure, for another version, and for
    packages that the course cannot do without.
    """
    sys.path[:] = dict.fromkeys(sys.path)  # the cell adds to it each time that it is run

    _hold_against(tag)

    if lacking := missing(LARGE):
        raise RuntimeError(_large_ones(lacking))

    if refusal := install(SMALL):
        raise RuntimeError(refusal)

    _left_out.clear()
    for name in extras:
        if refusal := install(EXTRAS[name]):
            print(f"{refusal}\nUntil then the cells that need {name} are left out.")
            _left_out.add(name)
    if _left_out:
        _watch_cells()


def _hold_against(tag: str) -> None:
    if tag != f"v{__version__}":
        raise RuntimeError(
            f"This notebook is of the course's version {tag}, the library in {COURSE} of "
            f"v{__version__}. Open the notebook that lies there, in notebooks; or take that folder "
            f"away and run this cell again, for {tag}. In both cases restart the kernel first."
        )


# --- packages -------------------------------------------------------------------------------------


def missing(packages: dict[str, str]) -> list[str]:
    """What pip calls those that cannot be imported. Nothing is imported for it."""
    return [asked for name, asked in packages.items() if importlib.util.find_spec(name) is None]


def install(packages: dict[str, str]) -> str:
    """Install those that are missing, and nothing that they depend on.

    Returns why it could not be done, and the cure; "" if all are there.
    """
    asked = missing(packages)
    if not asked:
        return ""

    quiet = ["-q", "--disable-pip-version-check", "--no-input"]
    soon = ["--retries", "1", "--timeout", "15"]  # without a network five tries take minutes
    command = [sys.executable, "-m", "pip", "install", "--no-deps", *quiet, *soon, *asked]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace"
    )
    if done.returncode:
        return _refusal(asked, done.stderr)

    importlib.invalidate_caches()
    if still := missing(packages):  # in a folder that this Python did not search when it began
        return f"{', '.join(still)} is installed now: restart the kernel and run this cell again."
    return ""


def _large_ones(lacking: list[str]) -> str:
    """On Colab and Kaggle the requirements file could replace torch: there, name by name."""
    names = " ".join(f'"{asked}"' for asked in lacking)
    if detect_platform() == "local":
        names = f'-r "{COURSE / "requirements.txt"}"'
    return (
        f"Missing in this Python ({sys.executable}): {', '.join(lacking)}. Install with\n"
        f"    %pip install {names}\n"
        "in a cell, restart the kernel and run this cell again."
    )


# --- why pip refused ------------------------------------------------------------------------------

NETWORK = (
    *("NewConnectionError", "NameResolutionError", "ConnectTimeoutError", "ReadTimeoutError"),
    *("ProxyError", "Network is unreachable", "name resolution", "Connection refused"),
)
BUILD = ("subprocess-exited-with-error", "metadata-generation-failed", "Failed building wheel")
OWN = "Make an environment of your own (README: 'Two commands') and choose it as the kernel."


def _refusal(asked: list[str], said: str) -> str:
    cause, cure = _why(said)
    return f"{', '.join(asked)} could not be installed: {cause}. {cure}"


def _why(said: str) -> tuple[str, str]:
    """(cause, cure) by what pip said; its last words where that is none of the known."""
    if "No module named pip" in said:
        return "this Python has no pip", f'In a cell: !"{sys.executable}" -m ensurepip'

    if "externally-managed-environment" in said:
        return "this Python is the system's, which lets nobody install into it (PEP 668)", OWN

    if any(word in said for word in NETWORK):  # before a failed build, which it is often behind
        return "there is no network", connect()

    if "Read-only file system" in said or "Permission denied" in said:
        return "the folder of this Python's packages cannot be written", OWN

    lines = [line.strip() for line in said.splitlines() if line.strip()] or ["nothing"]
    if any(word in said for word in BUILD):
        (first, *_) = [line for line in lines if "Error:" in line] or lines
        return (
            f"its build failed ({first})",
            "In a cell: %pip install -U pip setuptools",
        )
    return f"pip says {lines[-1]!r}", "Run this cell again."


# --- the platform ---------------------------------------------------------------------------------


def detect_platform() -> str:
    """``"Kaggle"``, ``"Colab"`` or ``"local"``; also in a script that a notebook starts."""
    # Kaggle first: its image stands on Colab's and sets the variables of both.
    if "KAGGLE_KERNEL_RUN_TYPE" in os.environ or KAGGLE_OUTPUT.is_dir():
        return "Kaggle"
    if "COLAB_RELEASE_TAG" in os.environ or "google.colab" in sys.modules:
        return "Colab"
    return "local"


def connect() -> str:
    """The cure for a missing network."""
    if detect_platform() == "Kaggle":
        return (
            "In the panel on the right, under 'Session options', switch 'Internet' on (the account "
            "needs a verified phone), and run this cell again."
        )
    return "Connect, and run this cell again."


# --- cells that need what is not there ------------------------------------------------------------


def _watch_cells() -> None:
    """From now on every cell passes ``_without_left_out`` before it runs."""
    ipython = sys.modules.get("IPython")
    shell = ipython and ipython.get_ipython()
    if shell and _without_left_out not in shell.input_transformers_cleanup:
        shell.input_transformers_cleanup.append(_without_left_out)


def _without_left_out(lines: list[str]) -> list[str]:
    """The lines of a cell; of one that needs what is not there, a line that says so."""
    for name in _left_out:
        if lines and lines[0].strip() == f"# needs {name}":
            return [f"print('Left out: {name} is not installed.')\n"]
    return lines
