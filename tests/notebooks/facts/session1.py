"""Numbers in session 1 that no run of ours gave, word for word, and where they come from."""

FACTS = {
    "8.75 % with 20 layers, 6.97 % with 56": "He et al. 2015, arXiv:1512.03385, table 6",
    "25.03, 24.52 and 24.19 % with A, B and C, against 28.54 % without shortcuts": (
        "He et al. 2015, arXiv:1512.03385, table 3"
    ),
    "by 1.21 a layer, Yang et al. 2019 compute": (
        "√(π / (π − 1)): arXiv:1902.08129, the growth of gradients in networks of norm and ReLU"
    ),
    "an accuracy of 45 % has a standard error of √(0.45 · 0.55 / 625) = 2 points": (
        "the standard deviation of a share, √(p · (1 − p) / n)"
    ),
    "None of the four had left guessing (3.22). The ResNet came down from 4.2 to 3.4, the plain "
    "network stood at 3.3, without norms it was 3.2": "test_session_1.py finds them in the outputs",
    "1,800 times above the last, was now nearly 200 times below it": (
        "test_session_1.py finds them in the outputs"
    ),
    "about 14 times below": "test_session_1.py finds it in the outputs",
    "all five losses lay between 3.17 and 3.32": "test_session_1.py finds them in the outputs",
    "4.1 against 3.7 billion multiply-adds": "test_session_1.py counts them",
    "3.62, 4.07 and 5.06 with 20, 56 and 110 layers; with zeros it was 3.28, 3.29 and 3.26, near "
    "ln 25 = 3.22": "test_session_1.py finds them in the outputs",
}
