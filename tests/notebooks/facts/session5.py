"""Numbers in session 5 that no run of ours gave, word for word, and where they come from."""

NORMAL = "the normal distribution: 95 % of it lies within 1.96 standard deviations"
EXAMPLE = "an example, reckoned beside it"

FACTS = {
    "± 1.96 standard errors": NORMAL,
    "Grad-CAM's (0.76 against 0.32) and FullGrad's (0.65 against 0.23)": (
        "test_session_5.py finds them in the outputs"
    ),
    # questions
    "the root of 18, 4.2.": EXAMPLE,
    "correlate at 0.7 with those before": EXAMPLE,
}
