"""On which versions of Colab and Kaggle the notebooks were run last, as rows: by `make drift`."""

from course_lib.experiments import record as records
from course_lib.files import read_json

NAMES = {"colab": "Colab", "kaggle": "Kaggle"}
VERSIONS = {
    "python": "Python",
    "torch": "torch",
    "numpy": "numpy",
    "ipython": "IPython",
    "matplotlib": "matplotlib",
}


def rows() -> list[tuple]:
    """The head, and a row for each platform that was verified."""
    found = read_json(records.RESULTS / "platforms.json")
    made = [("platform", "as shipped on", *VERSIONS.values(), "notebooks", "last verified")]

    for key, name in NAMES.items():
        if verified := found.get(key):
            versions = [verified["versions"][package] for package in VERSIONS]
            notebooks = len(verified["minutes"])
            made.append((name, verified["shipped"], *versions, notebooks, verified["verified"]))
    return made
