"""Does a lone notebook reach its end where a reader opens it, however it gets the course?

    python tests/platforms/ways.py kaggle                      every way, every notebook
    python tests/platforms/ways.py kaggle --way old --way new --data FOLDER
    python tests/platforms/ways.py colab --notebook 03

Each runs as there: the notebook alone in its folder (/kaggle/working, /content), that platform's
variables, and the packages of its list (drift.py installs them). The course is that of the last
commit, and its address leads to a copy on the disk. For these folders, for inputs that nobody can
write, and for a machine without a network the notebook runs in name spaces of its own (Linux:
``unshare``); nothing of them stays. What it printed lies in ``build/drift/<platform>/ways``.
``figures/results/platforms.json`` notes which notebooks reached their end.
"""

import argparse
import datetime
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import drift

sys.path.insert(0, str(drift.REPO))
from course_lib import addresses  # noqa: E402  (it needs nothing but Python)

OWNER = "someone"
FORK = f"{OWNER}/vision-course"  # what the course's own address lacks: a name that may be fetched
SETS = ("tiny-imagenet-200", "imagenette2-160")  # looked for in --data
FAILED = re.compile(r"^  (cell \d+ of \d+ failed: .+)$", re.MULTILINE)


class Way(NamedTuple):
    """How the notebook gets the course."""

    words: str
    online: bool = False
    goes_on: str = ""  # in the folder where this way ended, with all that lies there
    attached: str = ""  # where an input lies below /kaggle/input


WAYS = {
    "cloned": Way("alone, online: it clones the course", online=True),
    "again": Way("the same folder after a restart, offline", goes_on="cloned"),
    "old": Way("offline, course and data attached, old layout", attached="{slug}"),
    "new": Way(
        "the same folder after a restart, offline, attached in the new layout",
        goes_on="old",
        attached=f"datasets/{OWNER}/{{slug}}",
    ),
}

HOMES = {"colab": "/content", "kaggle": "/kaggle/working"}
VARIABLES = {
    "colab": {"COLAB_RELEASE_TAG": "release-colab"},
    # Its image stands on Colab's.
    "kaggle": {"COLAB_RELEASE_TAG": "release-colab", "KAGGLE_KERNEL_RUN_TYPE": "Interactive"},
}


# --- the command ----------------------------------------------------------------------------------


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code: 1 if a notebook stopped before its end."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("platform", choices=sorted(HOMES))
    parser.add_argument("--way", action="append", choices=WAYS, help="default: each")
    parser.add_argument("--notebook", action="append", metavar="NN", help="default: each")
    parser.add_argument("--data", type=Path, help=f"folder with {' and '.join(SETS)}, to attach")
    parser.add_argument("--home", type=Path, default=drift.REPO / "build" / "drift")
    args = parser.parse_args(arguments)
    if not shutil.which("unshare"):
        parser.error("this needs Linux and its unshare, to make a machine within this one")
    if not args.data and any(WAYS[name].attached for name in args.way or WAYS):
        parser.error("the ways old and new attach data: name its folder with --data (DATA=folder)")
    if args.data and (lacking := [name for name in SETS if not (args.data / name).is_dir()]):
        parser.error(f"{args.data} lacks {' and '.join(lacking)}")

    shipped = drift.HERE / f"{args.platform}.txt"
    about = drift.read_header(shipped)
    home = (args.home / args.platform).resolve()
    python = drift.environment(shipped, about["python"], home)
    published = publish(home / "ways")

    found: dict[str, dict[str, str]] = {}
    for name in (name for name in WAYS if not args.way or name in args.way):
        print(f"\n=== {args.platform}, {name}: {WAYS[name].words}", flush=True)
        machine = Machine(args.platform, name, home / "ways", python, published, args.data)
        machine.begin()
        for notebook in machine.notebooks(args.notebook):
            seconds, failure = machine.run(notebook)
            found.setdefault(notebook, {})[name] = failure or f"{seconds} s"
            print(f"{notebook}: {failure or f'{seconds} s'}", flush=True)
            note(args.platform, about, drift.installed(python), name, notebook, seconds, failure)

    print(f"\n{table(found)}")
    stopped = [cell for row in found.values() for cell in row.values() if "failed" in cell]
    return 1 if stopped else 0


def table(found: dict[str, dict[str, str]]) -> str:
    """notebook × way: its seconds, or the cell that failed and the last line of its error."""
    lines = []
    for notebook, row in found.items():
        lines += [notebook, *(f"    {way:7} {cell}" for way, cell in row.items())]
    return "\n".join(lines)


def publish(home: Path) -> Path:
    """A bare repository with the last commit under the tag that the notebooks ask for."""
    bare = home / "published.git"
    shutil.rmtree(bare, ignore_errors=True)
    subprocess.run(["git", "clone", "-q", "--bare", drift.REPO, bare], check=True)
    subprocess.run(["git", "-C", bare, "tag", "-f", addresses.TAG], check=True, capture_output=True)
    return bare


def note(platform, about, versions, way, notebook, seconds, failure) -> None:
    """Into the record: this notebook reached its end in this way, or no longer does."""
    ways = drift.recorded(platform, about).get("ways", {})
    reached = {**ways.get(way, {}).get("seconds", {}), notebook: seconds}
    if failure:
        del reached[notebook]
    today = datetime.date.today().isoformat()
    ways[way] = {"verified": today, "seconds": dict(sorted(reached.items()))}
    drift.write_record(platform, about, versions, ways=ways)


# --- a machine ------------------------------------------------------------------------------------


class Machine:
    """As a reader of ``platform`` has it, in one of the ways."""

    def __init__(self, platform, name, home, python, published, data):
        self.way, self.name, self.home = WAYS[name], name, home
        self.python, self.published, self.data = python, published, data
        # Inputs are Kaggle's alone. Its image stands on Colab's: what Colab ships today runs there
        # next, so both lists are tried with them.
        self.platform = "kaggle" if self.way.attached else platform
        self.folder = HOMES[self.platform]

        self.own = home / (self.way.goes_on or name)
        self.working = self.own / "working"
        self.printed = home / "printed" / name

    def begin(self) -> None:
        """An empty folder with the notebooks, and no package that the platform lacks.

        A way that goes on finds what the one before it left. Whatever that was, the notebooks that
        were online have fetched their packages.
        """
        self.printed.mkdir(parents=True, exist_ok=True)
        if not self.way.goes_on:
            shutil.rmtree(self.own, ignore_errors=True)
            for folder in ("working", "temporary", "root", "course"):
                (self.own / folder).mkdir(parents=True)
        fetched = bool(self.way.goes_on) and WAYS[self.way.goes_on].online
        change_packages(self.python, install=fetched)

        whole = f"git -C {shlex.quote(str(self.published))} archive {addresses.TAG}"
        course = shlex.quote(str(self.own / "course"))
        subprocess.run(f"{whole} | tar x -C {course}", shell=True, check=True)
        for path in (self.own / "course" / "notebooks").glob("[0-9]*.ipynb"):
            text = path.read_text(encoding="utf-8").replace(addresses.REPOSITORY, FORK)
            (self.working / path.name).write_text(text, encoding="utf-8", newline="\n")

    def notebooks(self, asked: list[str] | None) -> list[str]:
        names = sorted(path.stem for path in self.working.glob("[0-9]*.ipynb"))
        return [name for name in names if not asked or name in asked or name[:2] in asked]

    def run(self, notebook: str) -> tuple[int, str]:
        """(seconds, "" or the cell that failed and the last line of its error)."""
        runner = (
            f"import sys; sys.path.insert(0, {str(drift.REPO / 'notebooks')!r}); import run; "
            "from pathlib import Path; sys.exit(run.main(sys.argv[1:], Path.cwd()))"
        )
        options = ["--profile", "smoke", "--notebook", notebook, "--out", self.printed]
        command = self.entered([self.python, "-c", runner, *options])

        printed = self.printed / f"{notebook}.txt"
        start = time.monotonic()
        with open(printed, "wb") as file:
            done = subprocess.run(
                command, env=self.environment(), stdout=file, stderr=subprocess.STDOUT
            )
        seconds = round(time.monotonic() - start)

        if not done.returncode:
            return seconds, ""
        text = printed.read_text(encoding="utf-8", errors="replace")
        cell = FAILED.search(text)
        last = (text.strip().splitlines() or ["nothing printed"])[-1]
        return seconds, cell[1] if cell else f"failed: {last}"

    def environment(self) -> dict[str, str]:
        """Of the platform. Online the course's public address leads to the repository on the disk.

        Offline it leads nowhere, and pip knows no mirror on the disk either.
        """
        own = ("COURSE_", "KAGGLE_", "COLAB_", "GIT_", "PYTHON", "VIRTUAL_ENV", "MPLBACKEND")
        own += () if self.way.online else ("PIP_",)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(own)}
        if self.way.online:
            reached = {
                "GIT_CONFIG_COUNT": "1",
                "GIT_CONFIG_KEY_0": f"url.{self.published.as_uri()}.insteadOf",
                "GIT_CONFIG_VALUE_0": addresses.CLONE.replace(addresses.REPOSITORY, FORK),
            }
        else:
            reached = {"PIP_CONFIG_FILE": os.devnull}
        temporary = {"TMPDIR": str(self.own / "temporary")}
        return kept | reached | temporary | VARIABLES[self.platform]

    def entered(self, command: list) -> list[str]:
        """``command``, where the platform's folders are, the inputs read-only; offline if so."""
        unshare = ["unshare", "--user", "--map-root-user", "--mount"]
        if not self.way.online:
            unshare.append("--net")
        script = self.script() + 'exec chroot "$root" env -C "$here" "$@"\n'
        return [*unshare, "sh", "-ec", script, "sh", *map(str, command)]

    def script(self) -> str:
        """A root of its own: all that this machine's has, and the platform's folders."""
        lines = [
            f"root={shlex.quote(str(self.own / 'root'))} here={self.folder}",
            'mount -t tmpfs none "$root"',
            "for each in /*; do",
            '  if [ -L "$each" ]; then cp -P "$each" "$root$each"',
            '  elif [ -d "$each" ]; then mkdir "$root$each"; mount --rbind "$each" "$root$each"',
            "  fi",
            "done",
            'mkdir -p "$root$here"',
            f'mount --bind {shlex.quote(str(self.working))} "$root$here"',
        ]
        if not self.way.online:
            lines.append("ip link set lo up")  # the kernel is spoken to through it
        if self.platform == "kaggle":
            lines.append('mkdir "$root/kaggle/input"; mount -t tmpfs none "$root/kaggle/input"')
            for source, place in self.inputs():
                source, target = shlex.quote(str(source)), f'"$root/kaggle/input/{place}"'
                lines.append(f"mkdir -p {target}; mount --bind {source} {target}")
                lines.append(f"mount -o remount,ro,bind {target}")
            lines.append('mount -o remount,ro "$root/kaggle/input"')
        return "\n".join(lines) + "\n"

    def inputs(self):
        """(what is attached, where below /kaggle/input): the folder of a zip in that of a slug."""
        if not self.way.attached:
            return
        version = addresses.TAG.removeprefix("v")
        slug = self.way.attached.format(slug="vision-course")
        yield self.own / "course", f"{slug}/vision-course-{version}"
        for name in SETS if self.data else ():
            slug = self.way.attached.format(slug=name.split("-")[0])
            yield self.data.resolve() / name, f"{slug}/{name}/{name}"


def change_packages(python: Path, install: bool) -> None:
    """Install what notebooks fetch, or take it away."""
    names = [asked.split("==")[0] for asked in drift.FETCHED]
    order = ["install", "--no-deps", *drift.FETCHED] if install else ["uninstall", "-y", *names]
    subprocess.run([python, "-m", "pip", *order, "-q"], check=True, stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    sys.stdout.reconfigure(encoding="utf-8", errors="replace", line_buffering=True)
    sys.exit(main())
