"""Numbers in session 2 that no run of ours gave, word for word, and where they come from."""

LOG = "the log of the original session: fifty epochs at a price of 1 each"
LN_10 = "the logarithm of the number of classes, ten"

FACTS = {
    # the original session
    "fifty epochs, 49.9 % by its own log": LOG,
    "fifty times the unit, for 49.9 %": LOG,
    "its best epoch, 52.26 %": LOG,
    "suggested 0.0735; it trained at 0.90": LOG,
    # chance, and the smoothed label
    "0.5 %: a good network says": "one class of 200",
    "0.5 % for top-1, 2.5 % for top-5": "1 and 5 of 200 classes",
    "asks for 90 % on the right class": "one minus the smoothing, 0.1",
    "it asks for 90 %, never for certainty": "one minus the smoothing, 0.1",
    "its floor is 0.85": (
        "the entropy of the smoothed label, computed in the notebook from 200 and 0.1"
    ),
    "Still ln(200) = 5.30": "the logarithm of the number of classes",
    "a loss of ln 10 = 2.30": LN_10,
    "the loss of ten classes above 1.46": "ln(e + 9) − 1: one output is 1, the nine others are 0",
    "can never fall below 1.46": "ln(e + 9) − 1: one output is 1, the nine others are 0",
    "has a loss of 4.6. What": "about ln 100",
    "Expected is ln 10 = 2.30": LN_10,
    "ln 100 = 4.61": "the logarithm of a hundred",
    # settings of the recipe
    "The recipes' peak is 0.4": "experiments/tiny_imagenet.py",
    "8 · 0.4 = 3.2": "experiments/tiny_imagenet.py: bias_lr times lr",
    "near the 0.1 of the constant runs": "the learning rate of section 6, set in the notebook",
    "a peak of 0.4: at which step": "an example",
    "0.4 / 25 = 0.016": "arithmetic",
    # how sure a share of right answers is
    "A network that says 80 % should": "an example",
    "at 50 %, one standard error is 7 points": "√(½ · ½ / 50)",
    "With the 250 pictures of the real data one standard error is about 3 points": (
        "√(½ · ½ / 250)"
    ),
    "one standard error: 1.6 points": "√(0.57 · 0.43 / 1,000)",
    "one standard error is 1.6 points there": "√(0.57 · 0.43 / 1,000)",
    "5,000 out, for 0.7 points": "√(0.52 · 0.48 / 5,000)",
    "One standard error is 0.7 points": "√(0.52 · 0.48 / 5,000)",
    # what others reach
    "about 65 % in a hundred epochs": (
        "public trainings of a ResNet-18 at 64 px, pad-crop and flip: 65.0 to 65.5"
    ),
    "65 to 69 % in longer trainings": (
        "the papers on CutMix, SAMix and AdAutoMix: 65.5, 68.9 and 69.2"
    ),
    "94 % on CIFAR-10 in 3.29 seconds": "the title of a paper",
}
