"""Run the notebooks from top to bottom, without a browser.

    python notebooks/run.py --profile smoke              every notebook
    python notebooks/run.py --profile cpu --notebook 02  one notebook, the whole data set

The executed copies land in build/notebooks, also when a cell fails or the run is stopped; where
that takes no more, in a temporary folder. The last line that a cell tagged ``headline`` prints,
``HEADLINE | data | result``, ends up in the table.
"""

import argparse
import os
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import nbformat
from ipykernel.kernelspec import RESOURCES, get_kernel_dict
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_core.utils import ensure_event_loop
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError

FOLDER = Path(__file__).resolve().parent
PROFILES = ("smoke", "cpu", "gpu")  # as in course_lib.runtime, which takes seconds to import
PATIENCE = 120  # seconds that an interrupted training has to finish its batch and save
LONG_CELL = 5.0  # seconds after which a cell gets a line of its own, and its text is shown at once
ANSI = re.compile(r"\x1b\[[0-9;]*m")


class Headline(NamedTuple):
    """What a notebook ran on, and what came out."""

    data: str
    result: str


NO_HEADLINE = Headline("—", "—")


# --- the command --------------------------------------------------------------------------------


def main(arguments: list[str] | None = None, folder: Path = FOLDER) -> int:
    """The command line; returns the exit code: 0, 1 after a failure, 130 after Ctrl-C."""
    args = parse(arguments)
    paths = choose(folder, args.notebook)
    check_before(paths, [args.out, folder] if args.inplace else [args.out])
    print(f"profile {args.profile}: {len(paths)} notebook{'s' * (len(paths) > 1)}")

    rows, all_good = [], True
    try:
        for path in paths:
            row, good = run_one(path, args.out, args.profile, args.inplace)
            rows.append(row)
            all_good = all_good and good
    except KeyboardInterrupt:
        return 130

    print(f"\n{table(rows)}")
    return 0 if all_good else 1


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """SystemExit for what is not known."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", choices=PROFILES, default=os.environ.get("COURSE_PROFILE"))
    parser.add_argument(
        "--notebook", metavar="NN", help="one notebook by its number, such as 02, or its name"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=FOLDER.parent / "build" / "notebooks",
        help="folder for the executed copies, default build/notebooks",
    )
    parser.add_argument("--inplace", action="store_true", help="write into the notebooks instead")
    args = parser.parse_args(arguments)

    args.profile = args.profile or "smoke"
    if args.profile not in PROFILES:  # argparse looks at arguments, not at the variable
        known = ", ".join(PROFILES)
        parser.error(f"COURSE_PROFILE is {args.profile!r}: expected one of {known}")
    return args


def choose(folder: Path, asked: str | None) -> list[Path]:
    """The notebooks of ``folder``, or the one asked for: ``2``, ``02``, its name, its path.

    SystemExit where there is none.
    """
    found = sorted(folder.glob("[0-9][0-9]_*.ipynb"))
    if asked is None:
        chosen, wanted = found, "no notebook"
    else:
        name = Path(asked).name.removesuffix(".ipynb").zfill(2)
        chosen = [path for path in found if name in (path.stem, path.stem[:2])]
        wanted = f"no notebook {asked}"

    if not chosen:
        names = ", ".join(path.stem for path in found) or "none"
        sys.exit(f"{wanted} in {folder}. There are: {names}")
    return chosen


def check_before(paths: list[Path], folders: list[Path]) -> None:
    """What would fail after the last cell fails before the first one, by SystemExit."""
    for path in paths:
        read(path)

    for folder in folders:
        probe = folder / f".writable-{os.getpid()}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            probe.touch()
            probe.unlink()
        except OSError as error:
            sys.exit(
                f"cannot write to {folder} ({error.strerror}): choose another folder with --out "
                "(make run OUT=…), and leave out --inplace"
            )


def read(path: Path) -> nbformat.NotebookNode:
    """SystemExit for a file that is no notebook."""
    try:
        return nbformat.read(path, as_version=4)
    except Exception as error:  # nbformat raises many kinds
        sys.exit(f"{path} cannot be read as a notebook ({str(error) or type(error).__name__:.80})")


def run_one(path: Path, out: Path, profile: str, inplace: bool) -> tuple[tuple[str, ...], bool]:
    """Execute one notebook and write the outputs; (row of the table, success).

    They go into a copy in ``out``; with ``inplace``, if all cells ran, into the notebook itself. No
    success without them.
    """
    print(f"{path.stem} ...", flush=True)
    start = time.monotonic()
    notebook = read(path)

    failure = "stopped"  # unless execute comes back
    try:
        failure = execute(notebook, path.parent, profile)
    finally:
        if failure:
            print(f"  {failure}")
        written = write(notebook, path if inplace and not failure else out / path.name)

    found = headline(notebook)
    minutes = f"{(time.monotonic() - start) / 60:.1f}"
    result = failure.splitlines()[0] if failure else found.result
    return (path.stem, found.data, minutes, result), written and not failure


def table(rows: list[tuple[str, ...]]) -> str:
    """Columns as wide as their widest cell; the last one ends where it ends."""
    rows = [("notebook", "data", "minutes", "result"), *rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    widths[-1] = 0

    lines = []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        lines.append("  ".join(cells))
    return "\n".join(lines)


# --- one notebook -------------------------------------------------------------------------------


def execute(notebook, folder: Path, profile: str) -> str | None:
    """Run ``notebook`` in place, in a fresh kernel that works in ``folder``.

    Returns None, or what went wrong in words. Ctrl-C interrupts the cell and ends the kernel before
    KeyboardInterrupt goes on; the outputs so far are in ``notebook``.
    """
    clear(notebook)
    client = Client(
        notebook,
        km=AsyncKernelManager(kernel_spec_manager=ThisPython(), shutdown_wait_time=PATIENCE),
        timeout=None,
        iopub_timeout=60,
        coalesce_streams=True,
        record_timing=False,
        store_widget_state=False,
        extra_arguments=["--log-level=CRITICAL"],
    )
    environment = os.environ | {"COURSE_PROFILE": profile, "TQDM_DISABLE": "1"}

    with client.setup_kernel(cwd=str(folder), env=environment, cleanup_kc=True):
        try:
            client.read_language()
            client.run_cells()
        except (CellExecutionError, DeadKernelError) as error:
            return describe(client, error)
        except KeyboardInterrupt:
            ensure_event_loop().set_exception_handler(lambda *_: None)  # nobody awaits the cell now
            raise  # ending the kernel interrupts it first
    return None


def clear(notebook) -> None:
    """Forget earlier runs: outputs, counts, timings and widgets."""
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = []
            cell.execution_count = None


class ThisPython(KernelSpecManager):
    """Kernels run on this Python, whatever else is registered under the name "python3"."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        return KernelSpec(resource_dir=RESOURCES, **get_kernel_dict())


class Client(NotebookClient):
    """Counts cells, says which are long, and shows what a long cell prints while it runs."""

    number = 0  # of the cell that runs: 1, 2, …
    started = 0.0  # the clock at its start

    def run_cells(self) -> None:
        """Execute the code cells in order; raises what the first failing one raises."""
        cells = code_cells(self.nb)
        for self.number, (index, cell) in enumerate(cells, 1):
            self.started = time.monotonic()
            self.execute_cell(cell, index, execution_count=self.number)

            seconds = time.monotonic() - self.started
            if seconds > LONG_CELL:
                print(f"  cell {self.number} of {len(cells)}: {seconds:.0f} s", flush=True)

    def output(self, outs, msg, display_id, cell_index):
        """Called by nbclient for every message of the kernel."""
        is_long = time.monotonic() - self.started > LONG_CELL
        if is_long and msg["msg_type"] == "stream":
            for line in msg["content"]["text"].splitlines():
                print(f"    | {line}", flush=True)
        return super().output(outs, msg, display_id, cell_index)

    def read_language(self) -> None:
        """What a notebook says of its language, and Jupyter writes there too."""
        reply = self.wait_for_reply(self.kc.kernel_info())
        self.nb.metadata["language_info"] = reply["content"]["language_info"]


def describe(client: Client, error: Exception) -> str:
    """One line with the cell and its error; then the cell's first line and the traceback's end."""
    cells = code_cells(client.nb)
    _, cell = cells[client.number - 1]

    if isinstance(error, DeadKernelError):
        text = "the kernel died: out of memory?"
    else:
        text = ANSI.sub("", error.traceback)
    *before, last = [line for line in text.splitlines() if line.strip()][-8:]

    failed = f"cell {client.number} of {len(cells)} failed: {last}"
    return "\n    ".join([failed, cell.source.splitlines()[0], *before])


def code_cells(notebook) -> list[tuple[int, nbformat.NotebookNode]]:
    """(index among all cells, cell) of every cell that holds code."""
    return [
        (index, cell)
        for index, cell in enumerate(notebook.cells)
        if cell.cell_type == "code" and cell.source.strip()
    ]


# --- what is kept -------------------------------------------------------------------------------


def write(notebook, target: Path) -> bool:
    """Into ``target``, else into a temporary folder, with a word. True if ``target`` has it."""
    spare = Path(tempfile.gettempdir()) / f"{target.stem}-{os.getpid()}.ipynb"

    for place in (target, spare):
        try:
            write_whole(notebook, place)
        except (OSError, ValueError) as error:  # a ValueError: a sign that UTF-8 does not know
            print(f"  cannot write {place} ({getattr(error, 'strerror', error)})", flush=True)
        else:
            print(f"  written: {place}", flush=True)
            return place == target

    print("  the outputs are lost", flush=True)
    return False


def write_whole(notebook, target: Path) -> None:
    """What stands there before stays until the new one is whole. Raises OSError, ValueError."""
    aside = target.with_name(f"{target.name}.partial-{os.getpid()}")
    try:
        nbformat.write(notebook, aside)
        os.replace(aside, target)
    finally:
        aside.unlink(missing_ok=True)


# --- the headline -------------------------------------------------------------------------------


def headline(notebook) -> Headline:
    """As the cell tagged ``headline`` printed it; dashes where there is none."""
    for _, cell in code_cells(notebook):
        if is_headline(cell):
            return read_headline(cell.outputs)
    return NO_HEADLINE


def is_headline(cell) -> bool:
    return "headline" in cell.metadata.get("tags", [])


def read_headline(outputs) -> Headline:
    """From the last line on stdout, ``HEADLINE | data | result``; dashes where it is another."""
    printed = "".join(out.text for out in outputs if out.get("name") == "stdout")
    lines = printed.splitlines()
    parts = [part.strip() for part in lines[-1].split("|", 2)] if lines else []

    if len(parts) == 3 and parts[0] == "HEADLINE":
        return Headline(data=parts[1], result=parts[2])
    return NO_HEADLINE


if __name__ == "__main__":
    sys.stdout.reconfigure(encoding="utf-8", errors="replace")  # a tick, in a Windows pipe
    sys.exit(main())
