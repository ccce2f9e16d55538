"""Numbers in session 3 that no run of ours gave, word for word, and where they come from."""

LOG = "the log of the original session"
EXAMPLE = "an example, reckoned beside it"
LN_10 = "the logarithm of the number of classes, ten"
SWEPT = "test_session_3.py finds it in the records of the sweeps"

FACTS = {
    # the original session
    "Its finder suggested a rate of 0.0735; it trained at 0.90": LOG,
    "The original's schedule ended at 0.03": LOG,
    # what a rate does
    "at the rates 0.1, 0.7, and 2.05": EXAMPLE,
    "until the loss is below 0.0001": EXAMPLE,
    "at 0.0005 the valley takes 819 steps": "test_session_3.py reckons the steps",
    "plain descent needs at 0.005, which are 850": "test_session_3.py reckons the steps",
    "from 0.02 to 0.038 here": "2 / h and 2 · (1 + m) / h, with h = 100 and m = 0.9",
    "A rate of 0.1 with momentum 0.9 and one of 1.0 with none": "0.1 / (1 − 0.9)",
    # the range test
    "the new loss counts 5 %, the mean so far 95 %": "lr_finder.SMOOTH, and torch-lr-finder's",
    "guessing among ten classes costs ln 10 = 2.30": LN_10,
    "worse than guessing (ln 10 = 2.30)": LN_10,
    "the level of guessing, ln 10 = 2.30": LN_10,
    "fell from a rate of about 0.01 on, was lowest at 0.24": SWEPT,
    "and was lowest at about 0.3": SWEPT,
    "AdamW's was lowest at 0.013": SWEPT,
    "costs at most 2.3 points instead of 3.0. The mean cost stays at 1.3": SWEPT,
    "a standard error (2 points, on 500 or 625": "√(0.7 · 0.3 / 500), √(0.4 · 0.6 / 625)",
    "an accuracy on 500 pictures is 2 points": "√(0.7 · 0.3 / 500)",
    # schedules
    "from 0.95 to 0.85": "Smith 2018, arXiv:1803.09820, and the defaults of torch's OneCycleLR",
    "the highest rate is 0.1 in all": "experiments/session3.py",
    # what moves the answer
    "with momentum 0.9 the curve begins": EXAMPLE,
    "Three tests from 0.0003 on": EXAMPLE,
    "with momentum 0.9, at a rate of 0.1 and a decay of 0.0005, these are 2,000": (
        "(1 − 0.9) / (0.1 · 0.0005), and test_session_3.py counts the steps"
    ),
    "one standard error is 0.7 points": "√(0.52 · 0.48 / 5,000)",
    # break it
    "Guessing among the 25 classes of TinyImageNet is right in 4 %": "1 / 25",
    # questions
    "momentum 0.9 and a rate of 0.05, you without": EXAMPLE,
    "0.05 / (1 − 0.9) = 0.5: on a slope": EXAMPLE,
    "100 steps from 0.00001 to 10": EXAMPLE,
    "if the share is 0.05": EXAMPLE,
    "with rates 0.1 and 0.8": EXAMPLE,
    "held-out losses 1.0, 0.9, 0.95, 0.92, factor 0.2, from 0.1": EXAMPLE,
    "0.1, 0.1, 0.02, 0.004: the fourth": EXAMPLE,
    "below the best, 0.9": EXAMPLE,
}
