"""Losses: against the formulas in the papers, at their limits, and by their gradients."""

import math

import pytest
import torch
import torch.nn.functional as F

from course_lib.files import CourseError
from course_lib.training import CrossEntropy, Extras, GeneralizedCrossEntropy


def batch(count=12, classes=5, dtype=torch.float64, spread=3.0):
    generator = torch.Generator().manual_seed(0)
    logits = spread * torch.randn(count, classes, generator=generator, dtype=torch.float64)
    return logits.to(dtype), torch.arange(count) % classes


@pytest.mark.parametrize("q", [0.1, 0.5, 0.7, 1.0])
def test_generalized_cross_entropy_is_equation_six(q):
    """Zhang & Sabuncu 2018: L_q = (1 - f_j(x)^q) / q, f the softmax; here in plain Python."""
    logits, labels = batch()

    expected = 0.0
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        exponentials = [math.exp(value) for value in row]
        p = exponentials[label] / sum(exponentials)
        expected += (1 - p**q) / q / len(logits)

    found = GeneralizedCrossEntropy(q)(logits, labels)
    assert found.item() == pytest.approx(expected, rel=1e-12)


def test_towards_zero_it_is_cross_entropy():
    logits, labels = batch()
    expected = F.cross_entropy(logits, labels).item()

    for q, near in ((1e-3, 1e-2), (1e-6, 1e-5), (1e-12, 1e-9)):
        assert GeneralizedCrossEntropy(q)(logits, labels).item() == pytest.approx(
            expected, rel=near
        )


def test_at_one_it_is_half_the_mean_absolute_error():
    """§3.2: the unhinged loss; |one-hot - p| sums to 2 (1 - p(label))."""
    logits, labels = batch()
    p, target = logits.softmax(1), F.one_hot(labels, logits.shape[1])
    expected = (target - p).abs().sum(1).mean() / 2

    torch.testing.assert_close(GeneralizedCrossEntropy(1)(logits, labels), expected)


@pytest.mark.parametrize("q", [0.3, 0.7, 1.0])
def test_its_gradient_is_that_of_cross_entropy_times_p_to_the_q(q):
    logits, labels = batch()
    logits.requires_grad_()
    weight = logits.detach().softmax(1)[torch.arange(len(labels)), labels] ** q  # (B,)

    (found,) = torch.autograd.grad(GeneralizedCrossEntropy(q)(logits, labels), logits)
    (of_cross_entropy,) = torch.autograd.grad(F.cross_entropy(logits, labels), logits)
    torch.testing.assert_close(found, weight[:, None] * of_cross_entropy)

    assert torch.autograd.gradcheck(lambda x: GeneralizedCrossEntropy(q)(x, labels), logits)


def test_a_label_that_is_not_believed_counts_little():
    """The remedy itself: one picture in four is labelled against all that the network knows."""
    logits = torch.tensor([[6.0, 0, 0]] * 4).requires_grad_()
    labels = torch.tensor([0, 0, 0, 1])

    def pull_of_the_last(loss):
        (gradient,) = torch.autograd.grad(loss(logits, labels), logits)
        return gradient[3].abs().sum().item()

    robust, plain = pull_of_the_last(GeneralizedCrossEntropy()), pull_of_the_last(CrossEntropy())
    assert robust < 0.02 * plain


@pytest.mark.parametrize("q", [0.5, 0.7, 1.0])
def test_shares_of_classes_count_as_parts_of_a_label(q):
    """As MixUp gives them: 0.3 of one label and 0.7 of another."""
    logits, labels = batch()
    loss = GeneralizedCrossEntropy(q)
    one_hot = F.one_hot(labels, 5).double()
    torch.testing.assert_close(loss(logits, one_hot), loss(logits, labels))

    others = labels.roll(1)
    shares = 0.3 * one_hot + 0.7 * F.one_hot(others, 5)
    expected = 0.3 * loss(logits, labels) + 0.7 * loss(logits, others)
    torch.testing.assert_close(loss(logits, shares), expected)

    x, mixed = Extras(mixup=0.4).mix(5)(torch.randn(12, 3, 4, 4), labels)
    assert loss(logits, mixed).isfinite()


@pytest.mark.parametrize("dtype, near", [(torch.float32, 1e-6), (torch.bfloat16, 2e-2)])
def test_it_takes_logits_of_any_precision(dtype, near):
    logits, labels = batch()
    expected = GeneralizedCrossEntropy()(logits, labels).item()
    assert GeneralizedCrossEntropy()(logits.to(dtype), labels).item() == pytest.approx(
        expected, rel=near
    )


@pytest.mark.parametrize("scale", [1e4, 1e6])
def test_far_from_the_label_loss_and_gradient_are_numbers(scale):
    logits = torch.tensor([[scale, 0, 0], [0, scale, 0]]).requires_grad_()
    loss = GeneralizedCrossEntropy()(logits, torch.tensor([1, 1]))
    loss.backward()

    assert loss.item() == pytest.approx(1 / 0.7 / 2) and logits.grad.isfinite().all()


@pytest.mark.parametrize("q", [0, -0.1, 1.01, float("nan")])
def test_a_q_out_of_range_is_refused_when_it_is_given(q):
    with pytest.raises(CourseError, match=f"q is {q}: expected above 0, at most 1"):
        GeneralizedCrossEntropy(q)


def test_its_name_in_a_checkpoint_tells_its_q():
    """Two trainings that differ in it are not the same."""
    assert repr(GeneralizedCrossEntropy(0.5)) == "GeneralizedCrossEntropy(q=0.5)"
