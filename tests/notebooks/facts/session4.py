"""Numbers in session 4 that no run of ours gave, word for word, and where they come from."""

LOG = "the recorded losses of the original study, and its code"
LN_10 = "the logarithm of the number of classes, ten"
EXAMPLE = "an example, reckoned beside it"
PUBLIC = "the public table of Imagenette (fast.ai), 128 px"
PAPER = "Bello 2021, arXiv:2102.08602, table of ImageNet results"

FACTS = {
    # the original study
    "recorded lies at ln 10 = 2.30": LN_10,
    "Adam's rate was 0.00001": LOG,
    # what others have
    "| none | 87.43 | 91.57 | 93.55 | 94.24 |": PUBLIC,
    "| 1 % | 84.46 | 90.78 | 91.82 | 92.36 |": PUBLIC,
    "| 5 % | 83.44 | 89.53 | 89.30 | 90.04 |": PUBLIC,
    "| 25 % | 77.35 | 84.97 | 77.20 | 78.14 |": PUBLIC,
    "| 50 % | 66.60 | 79.36 | 50.80 | 52.18 |": PUBLIC,
    "LambdaResNet-50 with 15.0 million parameters and 78.4 %": PAPER,
    "ResNet-50 with 25.6 million and 76.9 %": PAPER,
    # questions
    "at a rate of one half, 45 % are wrong": "½ · 9 / 10",
    "88.1 ± 0.4 and 87.6 ± 0.5": EXAMPLE,
    "The difference is 0.5; its standard error is the root of (0.16 + 0.25) / 3, 0.37.": EXAMPLE,
    "So 1.4 standard errors": EXAMPLE,
    "losses between 2.2 and 2.4": EXAMPLE,
    "That ln 10 = 2.30 is guessing": LN_10,
}
