"""Numbers in figures/results/trials.md that no run of ours gave, and where they come from."""

FACTS = {
    "its standard error is about 0.7 points": (
        "√(2 · 0.57 · 0.43 / 10,000), were the two runs independent"
    ),
    "one standard error is 0.7 points": "√(0.52 · 0.48 / 5,000)",
}
