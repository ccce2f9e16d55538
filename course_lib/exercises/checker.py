"""Try an answer beside the reference, on the smallest inputs first, and name the cause of a difference.

A cause is found by making the usual mistakes on purpose, as edits of the reference: where an answer gives
the same results as an edited reference, that mistake is named.
"""

import copy
import inspect
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

UNFINISHED = "it returns nothing on this way: a return is missing"
SHOWN = 24  # values; a larger tensor is described


def read_number(result: Any, args: list) -> float | str:
    """A Python number, or anything with a single value and no axes."""
    if getattr(result, "shape", ()) != ():
        return f"it returns values of shape {tuple(result.shape)}, expected a single number"
    try:
        return float(result)
    except (TypeError, ValueError):
        return f"it returns a {type(result).__name__}, expected a number"


def read_tensor(result: Any, args: list) -> torch.Tensor | str:
    if not isinstance(result, torch.Tensor):
        return f"it returns a {type(result).__name__}, expected a tensor"
    return result.detach().cpu().clone()  # of code that reuses its buffer too


@dataclass(frozen=True)
class Exercise:
    """What an answer is held against."""

    reference: Callable
    hint: str
    cases: Callable[
        [], list[tuple]
    ]  # (end of the sentence "it goes wrong when …", *args), smallest first
    edits: list[
        tuple[str, str, str]
    ]  # (cause, what stands in the reference, what a student writes there)
    read: Callable[[Any, list], Any] = (
        read_tensor  # (result, args) → what is compared, or words why it cannot be
    )

    @property
    def mistakes(self) -> dict[str, Callable]:
        """cause → the reference with that mistake in it."""
        name, source, found = self.reference.__name__, inspect.getsource(self.reference), {}
        for cause, old, new in self.edits:
            exec(source.replace(old, new), names := dict(self.reference.__globals__))
            found[cause] = names[name]
        return found

    def results(self, function: Callable, cases: list[tuple]) -> list:
        """What is compared of each call, or a str: why there is nothing. No call spoils the next one's input."""
        return [self._result(function, copy.deepcopy(args)) for _, *args in cases]

    def _result(self, function: Callable, args: list) -> Any:
        try:
            result = function(*args)
        except Exception as error:
            message = re.sub("0x[0-9a-f]+", "0x…", str(error))  # addresses differ from run to run
            stub = isinstance(error, NotImplementedError) and not message
            return (
                UNFINISHED if stub else f"it raises {type(error).__name__}: {message}".rstrip(": .")
            )
        return UNFINISHED if result is None or result is ... else self.read(result, args)


def check(task: Exercise, answer: Callable) -> str:
    """What to tell the student: ``✓`` right, ``–`` not attempted, or ``✗`` with cause, input and difference."""
    name = task.reference.__name__
    wrong = f"✗ {name}: wrong, so the reference is used.\n  Cause: "
    blank = f"– {name}: not attempted yet, so the reference is used. Hint: {task.hint}"
    if answer is None or answer is ...:
        return blank
    if not callable(answer):
        return f"{wrong}it is a {type(answer).__name__}, expected a function."
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)  # the same words in every run, from random code too
        cases = task.cases()
        results = task.results(answer, cases)
        if isinstance(results[0], str) and results[0] == UNFINISHED:
            return blank
        right = task.results(task.reference, cases)
        for differ in (_values_differ, _dtypes_differ):
            for failing, (expected, got) in enumerate(zip(right, results, strict=True)):
                if difference := differ(expected, got):
                    args = zip(
                        inspect.signature(task.reference).parameters,
                        cases[failing][1:],
                        strict=False,
                    )
                    return (
                        f"{wrong}{_cause(task, cases, results, failing)}.\n  Smallest input that shows it: "
                        f"{', '.join(f'{name}={_show(arg)}' for name, arg in args)}\n  {difference}."
                    )
    return f"✓ {name}: right. Your code is used from here on."


def _cause(task: Exercise, cases: list[tuple], results: list, failing: int) -> str:
    """The mistake that gives what the answer gives, wherever both give a result to compare."""
    if isinstance(results[failing], str):
        return results[failing]
    for words, mistaken in task.mistakes.items():
        pairs = zip(task.results(mistaken, cases), results, strict=True)
        both = {
            number: pair
            for number, pair in enumerate(pairs)
            if not any(isinstance(one, str) for one in pair)
        }
        if failing in both and not any(_values_differ(*pair) for pair in both.values()):
            return words
    return f"it goes wrong when {cases[failing][0]}"


def _values_differ(expected: Any, got: Any) -> str:
    """In words, "" if they agree. Floats need not agree to the last digit, nor in dtype."""
    if isinstance(got, str):
        return f"Expected {_show(expected)}"
    if not isinstance(expected, torch.Tensor):
        same = (
            math.isclose(expected, got, abs_tol=1e-5)
            if isinstance(expected, float)
            else expected == got
        )
    elif expected.shape != got.shape:
        return f"Expected shape {tuple(expected.shape)}, got {tuple(got.shape)}"
    else:
        close = torch.isclose(got.double(), expected.double(), rtol=1e-3, atol=1e-5)
        same = close.all()
        if not same and expected.numel() > SHOWN:
            first = tuple((~close).nonzero()[0].tolist())
            return f"At {list(first)} expected {_show(expected[first])}, got {_show(got[first])}"
    return "" if same else f"Expected {_show(expected)}, got {_show(got)}"


def _dtypes_differ(expected: Any, got: Any) -> str:
    """The same for dtypes: they count where whole numbers, such as pixels, are asked for."""
    if (
        not isinstance(expected, torch.Tensor)
        or expected.is_floating_point()
        or expected.dtype == got.dtype
    ):
        return ""
    return f"Expected {expected.dtype}, got {got.dtype}"


def _show(value: Any) -> str:
    if isinstance(value, torch.Tensor) and value.numel() > SHOWN:
        return f"{value.dtype} {tuple(value.shape)}"
    if isinstance(value, torch.Tensor):
        return str(
            (value.double().numpy().round(4) if value.is_floating_point() else value).tolist()
        )
    if isinstance(value, nn.Module):
        return " – ".join(
            type(layer).__name__ for layer in value.modules() if not list(layer.children())
        )
    return f"{value:.6g}" if isinstance(value, float) else str(value)
