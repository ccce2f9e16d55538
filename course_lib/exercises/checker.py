"""Try an answer beside the reference, smallest inputs first, and name the cause of a difference.

A cause is found by making the usual mistakes on purpose: where an answer gives the same results as
a mistake that is written out beside the exercise, that mistake is named.
"""

import copy
import dis
import inspect
import io
import math
import re
import sys
import textwrap
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from itertools import combinations, permutations
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch import nn

WIDTH = 88  # columns of a verdict
SHOWN = 24  # values; a larger tensor is described
MOST_LINES = 50_000  # of an answer in one call; a right one runs through a few hundred

GREEN, YELLOW, RED, PLAIN = "\033[32m", "\033[33m", "\033[31m", "\033[0m"


class Unreadable(Exception):
    """A result that cannot be compared; the message ends the sentence "Cause: …"."""


class Endless(Exception):
    """An answer that runs on and on."""


def read_number(result: Any, args: list) -> float:
    """A Python number, or anything with a single value and no axes."""
    if getattr(result, "shape", ()) != ():
        raise Unreadable(
            f"it returns values of shape {tuple(result.shape)}, expected a single number"
        )
    if isinstance(result, torch.Tensor):
        result = result.detach()
    try:
        if not isinstance(result, str):
            return float(result)
    except (TypeError, ValueError):
        pass
    raise Unreadable(f"it returns a {type(result).__name__}, expected a number")


def read_tensor(result: Any, args: list) -> torch.Tensor:
    if not isinstance(result, torch.Tensor):
        raise Unreadable(f"it returns a {type(result).__name__}, expected a tensor")
    return result.detach().cpu().clone()  # a copy: some code fills the same buffer at every call


@dataclass
class Exercise:
    """What an answer is held against.

    reference: a function, or a class. cases: gives the inputs as (words, *args), smallest first;
    the words end the sentence "it goes wrong when …". read: (result, args) → what is compared, a
    number, a tensor, or several by name; args are as the call left them; raises Unreadable.
    in_place: it changes its inputs and returns nothing, so that read gets None and those.
    """

    reference: Callable
    hint: str
    cases: Callable[[], list[tuple]]
    read: Callable[[Any, list], Any] = read_tensor
    mistakes: list[tuple[str, Callable]] = field(default_factory=list)
    name: str = ""  # of the reference, unless given
    in_place: bool = False

    # What reference and mistakes gave: the cases are the same in every check.
    known: dict[tuple[Callable, int], "Outcome"] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self.name = self.name or self.reference.__name__

    @property
    def kind(self) -> str:
        return "class" if inspect.isclass(self.reference) else "function"

    def mistake(self, cause: str) -> Callable:
        """Decorator for a function with a usual mistake in it, and the words that name it."""

        def note(function: Callable) -> Callable:
            self.mistakes.append((cause, function))
            return function

        return note


@dataclass(frozen=True)
class Verdict:
    """``text``: what to tell the student. ``printed``: what the code printed, of one call."""

    right: bool
    text: str
    printed: str = ""


def check(task: Exercise, answer: Any) -> Verdict:
    """Right, not attempted, or wrong with its cause and the smallest input that shows it."""
    if answer is None or answer is ...:
        return _not_attempted(task)
    if not callable(answer):
        return _wrong(task, f"it is a {type(answer).__name__}, expected a {task.kind}")
    if isinstance(answer, nn.Module):
        cause = f"it is a {type(answer).__name__} already made, expected the {task.kind}"
        return _wrong(task, cause)
    if inspect.isclass(answer) and _is_empty_class(answer):
        return _not_attempted(task)

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)  # so that the words are the same in every run
        cases = task.cases()

        if not all(_takes(answer, args) for _, *args in cases):
            cause = f"it takes {_arguments(answer)}, expected {_arguments(task.reference)}"
            return _wrong(task, cause)

        answered = [_outcome(task, answer, args) for _, *args in cases]
        if answered[0].blank:
            return _not_attempted(task, answered[0].printed)

        expected = [_known_outcome(task, task.reference, cases, n) for n in range(len(cases))]
        failing = _first_difference(expected, answered)
        if failing is None:
            return _right(task, answered[0].printed)

        attempt = Attempt(task, answer, cases, expected, answered, failing)
        cause, shows_it = _cause(attempt)
        return _wrong(task, cause, _evidence(attempt, shows_it), answered[shows_it].printed)


# --- one call -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    """What a call gave: a value to compare, or a problem in words, perhaps with a line of code."""

    value: Any = None
    problem: str = ""
    line: str = ""
    printed: str = ""
    blank: bool = False


def _known_outcome(task: Exercise, function: Callable, cases: list[tuple], number: int) -> Outcome:
    """Of the reference or a mistake, computed once."""
    if (function, number) not in task.known:
        _, *args = cases[number]
        task.known[function, number] = _outcome(task, function, args)
    return task.known[function, number]


def _outcome(task: Exercise, function: Callable, args: list) -> Outcome:
    args = _copied(args)  # code that changes its input does not spoil the next call
    output = io.StringIO()

    try:
        with redirect_stdout(output), _lines_counted(function):
            result = function(*args)
            has_done = task.in_place and not _is_stub(function)
            has_returned = result is not None and result is not ...
            value = task.read(result, args) if has_done or has_returned else None
    except Unreadable as unreadable:
        return Outcome(problem=str(unreadable), printed=output.getvalue())
    except Endless:
        problem = "it does not come to an end: does every turn of the loop bring it nearer to one?"
        return Outcome(problem=problem, printed=output.getvalue())
    except Exception as error:  # in the call, or in a module that it made
        return Outcome(
            problem=_in_words(error),
            line=_line_of(error, function),
            printed=output.getvalue(),
            blank=isinstance(error, NotImplementedError) and not str(error),
        )

    printed = output.getvalue()
    if value is None:
        problem = "it returns nothing for this input: a return is missing"
        return Outcome(problem=problem, printed=printed, blank=_is_stub(function))
    return Outcome(value, printed=printed)


@contextmanager
def _lines_counted(function: Callable) -> Iterator[None]:
    """Raises Endless where the answer runs through too many lines of its own.

    Within it the result is read, too: the ``forward`` of a class does not run before.
    """
    files = _files(function)
    lines = 0

    def count(frame: FrameType, event: str, argument: Any) -> Callable | None:
        nonlocal lines
        if frame.f_code.co_filename not in files:
            return None  # a library's code is not looked into

        lines += 1
        if lines > MOST_LINES:
            raise Endless
        return count

    before = sys.gettrace()
    if before is None:  # a debugger, or a measurement of coverage, goes first
        sys.settrace(count)
    try:
        yield
    finally:
        sys.settrace(before)


def _copied(args: list) -> list:
    """Deep copies, the gradients of models included, which deepcopy leaves out."""
    copies = copy.deepcopy(args)

    for model, twin in zip(args, copies, strict=True):
        if isinstance(model, nn.Module):
            for parameter, own in zip(model.parameters(), twin.parameters(), strict=True):
                own.grad = copy.deepcopy(parameter.grad)
    return copies


def _in_words(error: Exception) -> str:
    message = re.sub("0x[0-9a-f]+", "0x…", str(error))  # addresses differ from run to run
    return f"it raises {type(error).__name__}: {message}".rstrip(": .")


def _files(function: Callable) -> set[str]:
    """Where the answer's own code stands, that of a class in its methods."""
    functions = _methods(function) if inspect.isclass(function) else [function]
    own = map(inspect.unwrap, functions)  # from under @torch.no_grad() and the like

    return {each.__code__.co_filename for each in own if hasattr(each, "__code__")}


def _line_of(error: Exception, function: Callable) -> str:
    """The last line of the answer's own file that the error passed through, "" if unknown."""
    files = _files(function)

    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.line for frame in frames if frame.filename in files]
    if not lines:
        return ""
    return lines[-1] or ""  # None where the source is not at hand


def _is_stub(function: Callable) -> bool:
    """Whether nothing is done in it: a docstring, ``pass``, ``...``, a bare return."""
    own = inspect.unwrap(function)
    if not hasattr(own, "__code__"):
        return False

    idle = {"RESUME", "NOP", "LOAD_CONST", "RETURN_CONST", "RETURN_VALUE"}
    return all(step.opname in idle for step in dis.get_instructions(own))


def _is_empty_class(answer: type) -> bool:
    """Whether its ``__init__`` or ``forward`` is a stub, or it has neither of its own."""
    methods = _methods(answer)
    return not methods or any(_is_stub(method) for method in methods)


def _methods(answer: type) -> list[Callable]:
    """``__init__`` and ``forward``, where they are not those that every module has."""
    found = [getattr(answer, name, None) for name in ("__init__", "forward")]
    known = (object.__init__, nn.Module.__init__, nn.Module.forward, None)
    return [method for method in found if method not in known]


def _takes(function: Callable, args: list) -> bool:
    signature = _signature(function)
    if signature is None:
        return True

    try:
        signature.bind(*args)
    except TypeError:
        return False
    return True


def _signature(function: Callable) -> inspect.Signature | None:
    """None for functions written in C that do not tell."""
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):
        return None


def _arguments(function: Callable) -> str:
    """As they stand in the stub, without types: "(images, dy, dx, pad=4)"."""
    signature = inspect.signature(function)
    bare = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
    return str(signature.replace(parameters=bare, return_annotation=signature.empty))


# --- two results --------------------------------------------------------------------------------


def _first_difference(expected: list[Outcome], answered: list[Outcome]) -> int | None:
    """The number of the first case that goes wrong; dtypes are looked at where all values agree."""
    for differ in (_outcomes_differ, _dtypes_differ):
        for number, pair in enumerate(zip(expected, answered, strict=True)):
            if differ(*pair):
                return number
    return None


def _outcomes_differ(expected: Outcome, got: Outcome) -> bool:
    return bool(got.problem) or _values_differ(expected.value, got.value)


def _dtypes_differ(expected: Outcome, got: Outcome) -> bool:
    """They count where whole numbers, such as pixels, are asked for."""
    if not isinstance(expected.value, torch.Tensor) or expected.value.is_floating_point():
        return False
    return expected.value.dtype != got.value.dtype


def _values_differ(expected: Any, got: Any) -> bool:
    """Floats need not agree to the last digit, nor in dtype."""
    if isinstance(expected, dict):
        return expected.keys() != got.keys() or any(
            _values_differ(value, got[name]) for name, value in expected.items()
        )
    if isinstance(expected, float):
        return not math.isclose(expected, got, abs_tol=1e-5)
    if not isinstance(expected, torch.Tensor):
        return expected != got
    return expected.shape != got.shape or not _close(expected, got).all()


def _close(expected: torch.Tensor, got: torch.Tensor) -> torch.Tensor:
    return torch.isclose(got.double(), expected.double(), rtol=1e-3, atol=1e-5)


# --- the cause ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Attempt:
    """An answer that went wrong: every case with both outcomes, and the number of the first."""

    task: Exercise
    answer: Callable
    cases: list[tuple]
    expected: list[Outcome]
    answered: list[Outcome]
    failing: int


def _cause(attempt: Attempt) -> tuple[str, int]:
    """The most telling words there are, in this order, and the number of the case to show."""
    first = attempt.failing
    words = (
        _known_mistake(attempt)
        or _other_default(attempt)
        or attempt.answered[first].problem
        or _other_shape(attempt)
    )
    if words:
        return words, first

    idle, shows_it = _idle_arguments(attempt)
    if idle:
        make = "make" if len(idle) > 1 else "makes"
        return f"{' and '.join(idle)} {make} no difference to the result", shows_it

    return f"it goes wrong when {attempt.cases[first][0]}", first


def _known_mistake(attempt: Attempt) -> str:
    """The words of a mistake that gives what the answer gives, in every case."""
    for cause, mistake in attempt.task.mistakes:
        if _is_shown_by(attempt, mistake):
            return cause
    return ""


def _is_shown_by(attempt: Attempt, mistake: Callable) -> bool:
    def outcome(number: int) -> Outcome:
        return _known_outcome(attempt.task, mistake, attempt.cases, number)

    # first the case that goes wrong: it rules most mistakes out
    failing = attempt.failing
    if not _agrees_where_it_fails(attempt.answered[failing], outcome(failing)):
        return False

    others = [number for number in range(len(attempt.cases)) if number != failing]
    return all(_agrees_elsewhere(attempt.answered[number], outcome(number)) for number in others)


def _agrees_where_it_fails(answered: Outcome, mistaken: Outcome) -> bool:
    """In the case that is shown to the student the same must come out, or the same error."""
    if answered.problem or mistaken.problem:
        return answered.problem == mistaken.problem
    return not _values_differ(mistaken.value, answered.value)


def _agrees_elsewhere(answered: Outcome, mistaken: Outcome) -> bool:
    """A mistake is written in many ways, which part where it has led to nothing any more."""
    if answered.problem:  # another way of writing it raises other words, or nothing
        return True
    if mistaken.problem:
        return False
    if _has_nan(answered.value) or _has_nan(mistaken.value):  # 0 / 0 in one of them
        return True
    return not _values_differ(mistaken.value, answered.value)


def _has_nan(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_has_nan(entry) for entry in value.values())
    if isinstance(value, torch.Tensor):
        return bool(value.isnan().any())
    return isinstance(value, float) and math.isnan(value)


def _other_default(attempt: Attempt) -> str:
    """An argument that the failing case leaves out, with another default than the reference's."""
    signature = _signature(attempt.answer)
    if signature is None:
        return ""

    given = len(attempt.cases[attempt.failing]) - 1
    asked = inspect.signature(attempt.task.reference).parameters.values()

    for own, right in list(zip(signature.parameters.values(), asked, strict=False))[given:]:
        if own.default not in (own.empty, right.default):
            return f"the default of `{right.name}` is {own.default}, expected {right.default}"
    return ""


def _other_shape(attempt: Attempt) -> str:
    expected, got = attempt.expected[attempt.failing].value, attempt.answered[attempt.failing].value
    if not isinstance(expected, torch.Tensor) or expected.shape == got.shape:
        return ""
    return f"it returns shape {tuple(got.shape)}, expected {tuple(expected.shape)}"


def _idle_arguments(attempt: Attempt) -> tuple[list[str], int]:
    """Arguments that should make a difference, and make none; and a case that goes wrong by it.

    Looked at are pairs of cases that differ in one argument alone, and in what is right: there the
    answer has to move, too. They can be few, so what stands still in them is tried elsewhere.
    """
    moves: dict[str, list[bool]] = {}
    wrong: dict[str, int] = {}

    for one, other in combinations(range(len(attempt.cases)), 2):
        changed = _changed_arguments(attempt, one, other)
        if len(changed) == 1 and _should_move(attempt, one, other):
            before, after = attempt.answered[one].value, attempt.answered[other].value
            moves.setdefault(changed[0], []).append(_values_differ(before, after))

            is_right = not _values_differ(attempt.expected[other].value, after)
            wrong.setdefault(changed[0], one if is_right else other)

    still = [name for name, moved in moves.items() if not any(moved)]
    idle = [name for name in still if not _makes_a_difference(attempt, name)]
    return [f"`{name}`" for name in idle], min((wrong[name] for name in idle), default=0)


def _makes_a_difference(attempt: Attempt, name: str) -> bool:
    """Whether the answer moves in any case that takes over this argument from another one."""
    for one, other in permutations(range(len(attempt.cases)), 2):
        args = _bound(attempt, one) | {name: _bound(attempt, other)[name]}
        before = attempt.answered[one]
        after = _outcome(attempt.task, attempt.answer, [*args.values()])

        if not (before.problem or after.problem) and _values_differ(before.value, after.value):
            return True
    return False


def _should_move(attempt: Attempt, one: int, other: int) -> bool:
    if attempt.answered[one].problem or attempt.answered[other].problem:
        return False
    return _values_differ(attempt.expected[one].value, attempt.expected[other].value)


def _changed_arguments(attempt: Attempt, one: int, other: int) -> list[str]:
    first, second = _bound(attempt, one), _bound(attempt, other)
    return [name for name in first if not _same_argument(first[name], second[name])]


def _bound(attempt: Attempt, number: int) -> dict[str, Any]:
    """The arguments of a case by name, those that it leaves out included."""
    bound = inspect.signature(attempt.task.reference).bind(*attempt.cases[number][1:])
    bound.apply_defaults()
    return bound.arguments


def _same_argument(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return one.shape == other.shape and torch.equal(one, other)
    if isinstance(one, np.ndarray):
        return np.array_equal(one, other)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_same_argument, one, other))
    return one == other


# --- in words -----------------------------------------------------------------------------------


def _right(task: Exercise, printed: str) -> Verdict:
    text = _paragraph(f"✓ {task.name}: right. Your code is used from here on.", GREEN)
    return Verdict(True, text, printed)


def _not_attempted(task: Exercise, printed: str = "") -> Verdict:
    text = _paragraph(f"– {task.name}: not attempted yet, so the reference is used.", YELLOW)
    return Verdict(False, text, printed)


def _wrong(
    task: Exercise, cause: str, evidence: tuple[str, ...] = (), printed: str = ""
) -> Verdict:
    verdict = f"✗ {task.name}: wrong, so the reference is used."
    end = "" if cause.endswith("?") else "."
    details = [f"Cause: {cause}{end}", *evidence, f"Hint: {task.hint}"]

    text = "\n".join([_paragraph(verdict, RED), *map(_detail, details)])
    return Verdict(False, text, printed)


def _paragraph(text: str, colour: str) -> str:
    """Wrapped, with its first sign in colour."""
    sign, rest = text[0], textwrap.fill(text, WIDTH, subsequent_indent="  ")[1:]
    return f"{colour}{sign}{PLAIN}{rest}"


def _detail(text: str) -> str:
    return textwrap.fill(
        text,
        WIDTH,
        initial_indent="  ",
        subsequent_indent="    ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _evidence(attempt: Attempt, number: int) -> tuple[str, ...]:
    """Of one case: the line that raised, the input that shows it, and the difference there."""
    names = inspect.signature(attempt.task.reference).parameters
    args = zip(names, attempt.cases[number][1:], strict=False)
    shown = ", ".join(f"{name}={_show(arg)}" for name, arg in args)

    outcome = attempt.answered[number]
    difference = _difference(attempt.expected[number].value, outcome)
    line = [f"In the line: {outcome.line}"] if outcome.line else []

    return *line, f"Smallest input that shows it: {shown}", f"{difference}."


def _difference(expected: Any, outcome: Outcome) -> str:
    if outcome.problem:
        return f"Expected {_show(expected)}"
    return _sentence(_between(expected, outcome.value))


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]


def _between(expected: Any, got: Any) -> str:
    """The first difference: of several values by name, or of one at its place in a tensor."""
    if isinstance(expected, dict):
        name = next(name for name in expected if _values_differ(expected[name], got[name]))
        return f"{name}: {_between(expected[name], got[name])}"
    if not isinstance(expected, torch.Tensor):
        return f"expected {_show(expected)}, got {_show(got)}"
    if expected.shape != got.shape:
        return f"expected shape {tuple(expected.shape)}, got {tuple(got.shape)}"

    close = _close(expected, got)
    if close.all():
        return f"expected {expected.dtype}, got {got.dtype}"
    if expected.numel() <= SHOWN:
        return f"expected {_show(expected)}, got {_show(got)}"

    first = tuple((~close).nonzero()[0].tolist())
    return f"at {list(first)} expected {_show(expected[first])}, got {_show(got[first])}"


def _show(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return _show_tensor(value)
    if isinstance(value, nn.Module):
        return _show_layers(value)
    if isinstance(value, torch.optim.Optimizer):
        return _show_optimizer(value)
    if isinstance(value, dict):
        return _show_named(value)
    if isinstance(value, list | tuple):
        shown = ", ".join(map(_show, value))
        return f"[{shown}]" if isinstance(value, list) else f"({shown})"
    if inspect.isclass(value):
        return value.__name__
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _show_named(values: dict[str, Any]) -> str:
    """The first, which is what was asked for, and of the others those that are short."""
    first = next(iter(values))
    short = {
        name: value
        for name, value in values.items()
        if name == first or not isinstance(value, torch.Tensor) or value.numel() <= SHOWN
    }
    return ", ".join(f"{name} {_show(value)}" for name, value in short.items())


def _show_tensor(tensor: torch.Tensor) -> str:
    if tensor.numel() > SHOWN:
        return f"{tensor.dtype} {tuple(tensor.shape)}"
    if tensor.is_floating_point():
        return str(tensor.detach().double().numpy().round(4).tolist())
    return str(tensor.tolist())


def _show_layers(model: nn.Module) -> str:
    """The layers in their order, "Conv2d – BatchNorm2d"."""
    layers = [layer for layer in model.modules() if not list(layer.children())]
    frozen = not all(parameter.requires_grad for parameter in model.parameters())

    names = " – ".join(type(layer).__name__ for layer in layers)
    return f"{names}, frozen" if frozen else names


def _show_optimizer(optimizer: torch.optim.Optimizer) -> str:
    """By the name that torch has for it, "SGD(lr=0.5, momentum=0.9)"."""
    bases = [base for base in type(optimizer).__mro__ if base.__module__.startswith("torch.optim")]
    settings = {name: optimizer.defaults.get(name) for name in ("lr", "momentum")}

    shown = ", ".join(f"{name}={value:g}" for name, value in settings.items() if value)
    return f"{bases[0].__name__}({shown})"
