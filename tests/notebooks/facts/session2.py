"""Numbers in session 2 that no run of ours gave, word for word, and where they come from."""

LOG = "the log of the original session: fifty epochs at a price of 1 each"

FACTS = {
    # the original session
    "fifty epochs, 49.9 % by its own log": LOG,
    "fifty times the unit, for 49.9 %": LOG,
    "its best epoch, 52.26 %": LOG,
    "suggested 0.0735; it trained at 0.90": LOG,
    # chance, and the smoothed label
    "sees one class, and reports 0.5 %": "one class of 200",
    "0.5 % for top-1, 2.5 % for top-5": "1 and 5 of 200 classes",
    "asks for 90 % on the right class": "one minus the smoothing, 0.1",
    "its floor is 0.85": (
        "the entropy of the smoothed label, computed in the notebook from 200 and 0.1"
    ),
    # how sure a share of right answers is
    "A network that says 80 % should": "an example",
    "at 50 %, one standard error is 7 points": "√(½ · ½ / 50)",
    "With 250 pictures one standard error is about 3 points": "√(½ · ½ / 250)",
    "its standard error is about 0.7 points": (
        "√(2 · 0.57 · 0.43 / 10,000), were the two runs independent"
    ),
    "on 1,000 pictures two points are noise": "one standard error is 1.6 points",
    "one standard error: 1.6 points": "√(0.57 · 0.43 / 1,000)",
    "one standard error is 0.7 points": "√(0.52 · 0.48 / 5,000)",
    # what others reach
    "about 65 % in a hundred epochs": (
        "public trainings of a ResNet-18 at 64 px, pad-crop and flip: 65.0 to 65.5"
    ),
    "65 to 69 % in longer trainings": (
        "the papers on CutMix, SAMix and AdAutoMix: 65.5, 68.9 and 69.2"
    ),
    "94 % on CIFAR-10 in 3.29 seconds": "the title of a paper",
}
