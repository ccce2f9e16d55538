"""Numbers in session 5 that no run of ours gave, word for word, and where they come from."""

NORMAL = "the normal distribution: 95 % of it lies within 1.96 standard deviations"
EXAMPLE = "an example, reckoned beside it"

FACTS = {
    "± 1.96 standard errors": NORMAL,
    # questions
    "the root of 18, 4.2.": EXAMPLE,
    "correlate at 0.7 with those before": EXAMPLE,
}
