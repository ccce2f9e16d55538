"""Try an answer beside the reference, on the smallest inputs first, and name the cause of a difference.

A cause is found by making the usual mistakes on purpose: where an answer gives the same results as code
with a known mistake, that mistake is named.
"""

import copy
import inspect
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn


class Failure(Exception):
    """A call that gave no result to compare; its message says why. ``blank``: nothing was written yet."""

    def __init__(self, words: str, blank: bool = False) -> None:
        super().__init__(words)
        self.blank = blank


@dataclass(frozen=True)
class Case:
    """One call of the answer. ``when`` ends the sentence "it goes wrong when …"."""

    when: str
    args: tuple


@dataclass(frozen=True)
class Exercise:
    """What an answer is held against."""

    reference: Callable
    hint: str
    cases: Callable[[], Sequence[Case]]  # smallest first
    mistakes: Mapping[str, Callable]  # cause in words → code with that mistake
    read: Callable[[Any, tuple], Any]  # (result, args) → what is compared; Failure if of another kind
    compare: Callable[[Any, Any], str]  # (expected, got) → the difference in words, "" if none
    finish: Callable[[Any, Any], str] = lambda expected, got: ""  # the same, once all values are right


def check(task: Exercise, answer: Callable) -> str:
    """``"right"``, ``"not attempted"``, or the cause, the input and the difference in words."""
    if answer is None or answer is ...:
        return "not attempted"
    if not callable(answer):
        return f"  Cause: it is a {type(answer).__name__}, expected a function."
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)  # the same words in every run, from random code too
        cases = task.cases()
        results = [_outcome(task, answer, case) for case in cases]
        if isinstance(results[0], Failure) and results[0].blank:
            return "not attempted"
        right = [_outcome(task, task.reference, case) for case in cases]
        for compare in (task.compare, task.finish):
            for number, (expected, got) in enumerate(zip(right, results, strict=True)):
                if difference := _difference(compare, expected, got):
                    return (f"  Cause: {_cause(task, cases, results, number)}.\n"
                            "  Smallest input that shows it: "
                            f"{_show_call(task.reference, cases[number].args)}\n"
                            f"  {difference[0].upper()}{difference[1:]}.")
    return "right"


def _outcome(task: Exercise, function: Callable, case: Case) -> Any:
    """The result to compare, or a Failure. Works on copies, so that no call spoils the next one."""
    args = copy.deepcopy(case.args)
    try:
        result = function(*args)
    except Exception as error:
        blank = isinstance(error, NotImplementedError) and not str(error)
        message = re.sub("0x[0-9a-f]+", "0x…", str(error))  # addresses differ from run to run
        return Failure(f"it raises {type(error).__name__}: {message}".rstrip(": ."), blank)
    if result is None or result is ...:
        return Failure("it returns nothing on this way: a return is missing", blank=True)
    try:
        return task.read(result, args)
    except Failure as failure:
        return failure


def _difference(compare: Callable, expected: Any, got: Any) -> str:
    return f"expected {show(expected)}" if isinstance(got, Failure) else compare(expected, got)


def _cause(task: Exercise, cases: Sequence[Case], results: list, failing: int) -> str:
    """The mistake that gives what the answer gives, wherever both give a result to compare."""
    if isinstance(results[failing], Failure):
        return str(results[failing])
    for words, mistaken in task.mistakes.items():
        outcomes = [_outcome(task, mistaken, case) for case in cases]
        comparable = [not isinstance(outcome, Failure) and not isinstance(result, Failure)
                      for outcome, result in zip(outcomes, results, strict=True)]
        if comparable[failing] and not any(
                task.compare(outcomes[i], results[i]) for i in range(len(cases)) if comparable[i]):
            return words
    return f"it goes wrong when {cases[failing].when}"


# What answers give back, and how it is compared


def read_number(result: Any, args: tuple) -> float:
    """A Python number, or anything with a single value and no axes."""
    if getattr(result, "shape", ()) != ():
        raise Failure(f"it returns values of shape {tuple(result.shape)}, expected a single number")
    try:
        return float(result)
    except (TypeError, ValueError):
        raise Failure(f"it returns a {type(result).__name__}, expected a number") from None


def read_tensor(result: Any, args: tuple) -> torch.Tensor:
    if not isinstance(result, torch.Tensor):
        raise Failure(f"it returns a {type(result).__name__}, expected a tensor")
    return result.detach().cpu().clone()  # of code that reuses its buffer too


def compare_numbers(expected: float, got: float, within: float = 1e-3) -> str:
    if math.isclose(expected, got, rel_tol=0, abs_tol=within):
        return ""
    return f"expected {show(expected)}, got {show(got)}"


def compare_tensors(expected: torch.Tensor, got: torch.Tensor) -> str:
    """Shape and values; the dtype does not count."""
    if expected.shape != got.shape:
        return f"expected shape {tuple(expected.shape)}, got {tuple(got.shape)}"
    close = torch.isclose(expected.double(), got.double(), rtol=1e-3, atol=1e-5)
    if close.all():
        return ""
    if expected.numel() <= SHOWN_VALUES:
        return f"expected {show(expected)}, got {show(got)}"
    first = tuple((~close).nonzero()[0].tolist())
    return f"at {list(first)} expected {show(expected[first])}, got {show(got[first])}"


def compare_dtypes(expected: torch.Tensor, got: torch.Tensor) -> str:
    if expected.dtype == got.dtype:
        return ""
    return f"expected {_dtype(expected)}, got {_dtype(got)}"


# Words for values

SHOWN_VALUES = 24  # a larger tensor is described, not printed


def show(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        if value.numel() > SHOWN_VALUES:
            return f"{_dtype(value)} {tuple(value.shape)}"
        value = value.double().numpy().round(4) if value.is_floating_point() else value
        return str(value.tolist())
    if isinstance(value, nn.Module):
        layers = [module for module in value.modules() if not list(module.children())]
        return " – ".join(type(layer).__name__ for layer in layers)
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _show_call(function: Callable, args: tuple) -> str:
    names = inspect.signature(function).parameters
    return ", ".join(f"{name}={show(arg)}" for name, arg in zip(names, args, strict=False))


def _dtype(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
