"""Numbers in session 1 that no run of ours gave, word for word, and where they come from."""

FACTS = {
    "8.75 % with 20 layers, 6.97 % with 56": "He et al. 2015, arXiv:1512.03385, table 6",
    "by 1.21 a layer, Yang et al. 2019 compute": (
        "√(π / (π − 1)): arXiv:1902.08129, the growth of gradients in networks of norm and ReLU"
    ),
}
