"""Run the notebooks from top to bottom, without a browser.

    python notebooks/run.py --profile smoke              every notebook
    python notebooks/run.py --profile cpu --notebook 02  one notebook, the whole data set

The executed copies land in build/notebooks, also when a cell fails or the run is stopped. The last
line that a cell tagged ``headline`` prints, ``HEADLINE | data | result``, ends up in the table.
"""

import argparse
import os
import re
import sys
import time
from pathlib import Path

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


def code_cells(notebook) -> list[tuple[int, nbformat.NotebookNode]]:
    """(index among all cells, cell) of every cell that holds code."""
    return [
        (i, cell)
        for i, cell in enumerate(notebook.cells)
        if cell.cell_type == "code" and cell.source.strip()
    ]


class ThisPython(KernelSpecManager):
    """Kernels run on this Python, whatever else is registered under the name "python3"."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        return KernelSpec(resource_dir=RESOURCES, **get_kernel_dict())


class Client(NotebookClient):
    """Counts cells, says which are long, and shows what a long cell prints while it runs."""

    number, started = 0, 0.0  # of the cell that runs: 1, 2, … and the clock at its start

    def output(self, outs, msg, display_id, cell_index):
        if msg["msg_type"] == "stream" and time.monotonic() - self.started > LONG_CELL:
            for line in msg["content"]["text"].splitlines():
                print(f"    | {line}", flush=True)
        return super().output(outs, msg, display_id, cell_index)

    def run_cells(self) -> None:
        """Execute the code cells in order; raises what the first failing one raises."""
        cells = code_cells(self.nb)
        for self.number, (index, cell) in enumerate(cells, 1):
            self.started = time.monotonic()
            self.execute_cell(cell, index, execution_count=self.number)
            if (seconds := time.monotonic() - self.started) > LONG_CELL:
                print(f"  cell {self.number} of {len(cells)}: {seconds:.0f} s", flush=True)

    def read_language(self) -> None:
        reply = self.wait_for_reply(self.kc.kernel_info())
        self.nb.metadata["language_info"] = reply["content"]["language_info"]


def execute(notebook, folder: Path, profile: str) -> str | None:
    """Run ``notebook`` in place, in a fresh kernel that works in ``folder``.

    Returns None, or what went wrong in words. Ctrl-C interrupts the cell and ends the kernel before
    KeyboardInterrupt goes on; the outputs so far are in ``notebook``.
    """
    clear(notebook)
    manager = AsyncKernelManager(kernel_spec_manager=ThisPython(), shutdown_wait_time=PATIENCE)
    client = Client(
        notebook,
        km=manager,
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
            cell.outputs, cell.execution_count = [], None


def describe(client: Client, error: Exception) -> str:
    """One line with the cell and its error; then the cell's first line and the traceback's end."""
    cells = code_cells(client.nb)
    source = cells[client.number - 1][1].source.splitlines()
    dead = isinstance(error, DeadKernelError)
    text = "the kernel died: out of memory?" if dead else ANSI.sub("", error.traceback)
    lines = [line for line in text.splitlines() if line.strip()][-8:]
    first = f"cell {client.number} of {len(cells)} failed: {lines[-1]}"
    return "\n    ".join([first, source[0], *lines[:-1]])


def headline(notebook) -> tuple[str, str]:
    """(data, result) as the cell tagged ``headline`` printed them; dashes where there is none."""
    for _, cell in code_cells(notebook):
        if "headline" in cell.metadata.get("tags", []):
            return last_headline(cell.outputs)
    return "—", "—"


def last_headline(outputs) -> tuple[str, str]:
    """(data, result) from the last line on stdout, ``HEADLINE | data | result``; or dashes."""
    printed = "".join(out.text for out in outputs if out.get("name") == "stdout")
    parts = [part.strip() for part in (printed.splitlines() or [""])[-1].split("|", 2)]
    return (parts[1], parts[2]) if len(parts) == 3 and parts[0] == "HEADLINE" else ("—", "—")


def table(rows: list[tuple[str, ...]]) -> str:
    rows = [("notebook", "data", "minutes", "result"), *rows]
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    return "\n".join(
        "  ".join([*(c.ljust(w) for c, w in zip(row, widths, strict=False)), row[-1]])
        for row in rows
    )


def choose(folder: Path, number: str | None) -> list[Path]:
    """The notebooks of ``folder``, or the one with this number. SystemExit where there is none."""
    found = sorted(folder.glob("[0-9][0-9]_*.ipynb"))
    chosen = [p for p in found if number is None or p.stem.split("_")[0] == number.zfill(2)]
    if not chosen:
        names = ", ".join(p.stem for p in found) or "none"
        sys.exit(f"no notebook {number or ''} in {folder}. There are: {names}".replace("  ", " "))
    return chosen


def run_one(path: Path, out: Path, profile: str, inplace: bool) -> tuple[tuple[str, ...], bool]:
    """Execute one notebook and write the outputs; (row of the table, success).

    They go into a copy in ``out``; with ``inplace``, if all cells ran, into the notebook itself.
    """
    print(f"{path.stem} ...", flush=True)
    notebook, start = nbformat.read(path, as_version=4), time.monotonic()
    failure = "stopped"
    try:
        failure = execute(notebook, path.parent, profile)
    finally:
        target = path if inplace and not failure else out / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, target)
        print(f"  {failure}\n" if failure else "", f"  written: {target}", sep="", flush=True)
    data, result = headline(notebook)
    minutes = f"{(time.monotonic() - start) / 60:.1f}"
    return (path.stem, data, minutes, failure.splitlines()[0] if failure else result), not failure


def main(arguments: list[str] | None = None, folder: Path = FOLDER) -> int:
    """The command line; returns the exit code: 0, 1 after a failed cell, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", choices=PROFILES, default=os.environ.get("COURSE_PROFILE"))
    parser.add_argument("--notebook", metavar="NN", help="number of one notebook, such as 02")
    parser.add_argument(
        "--out",
        type=Path,
        default=FOLDER.parent / "build" / "notebooks",
        help="folder for the executed copies, default build/notebooks",
    )
    parser.add_argument("--inplace", action="store_true", help="write into the notebooks instead")
    args = parser.parse_args(arguments)
    profile = args.profile or "smoke"
    if profile not in PROFILES:
        parser.error(f"COURSE_PROFILE is {profile!r}: expected one of {', '.join(PROFILES)}")

    paths, rows, good = choose(folder, args.notebook), [], True
    print(f"profile {profile}: {len(paths)} notebook{'s' * (len(paths) > 1)}")
    try:
        for path in paths:
            row, success = run_one(path, args.out, profile, args.inplace)
            rows, good = [*rows, row], good and success
    except KeyboardInterrupt:
        return 130
    print(f"\n{table(rows)}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.stdout.reconfigure(errors="replace")  # not every Windows console knows a tick
    sys.exit(main())
