"""Numbers in README.md that no run of ours gave, word for word, and where they come from."""

FACTS = {
    "Python 3.11 to 3.14": "the oldest for our code, to the newest for Albumentations",
    "Intel Macs end at torch 2.2.2": "the last torch with packages for them",
    "an array of 1.4 GB": "110,000 pictures × 64 × 64 × 3 bytes",
    "The public session that session 2 grew from spent 50 for 49.9 %": (
        "the log of the original session, fifty epochs at a price of 1 each"
    ),
}
