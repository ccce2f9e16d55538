"""Imagewoof: ten breeds of dogs out of ImageNet, in the form of Imagenette, and far harder.

9,025 train and 3,929 val pictures. Source: J. Howard, fast.ai, 2019 (version 2). As in Imagenette,
most of the val pictures are from ImageNet's *training* set, and the file of labels is sorted by
class.
"""

from course_lib.data.imagenette import Subset, archive, load
from course_lib.data.store import ImageStore

TOTALS = {"train": 9_025, "val": 3_929}

IMAGEWOOF = Subset(
    "Imagewoof",
    classes={
        "n02086240": "Shih-Tzu",
        "n02087394": "Rhodesian ridgeback",
        "n02088364": "beagle",
        "n02089973": "English foxhound",
        "n02093754": "Border terrier",
        "n02096294": "Australian terrier",
        "n02099601": "golden retriever",
        "n02105641": "Old English sheepdog",
        "n02111889": "Samoyed",
        "n02115641": "dingo",
    },
    pictures=TOTALS,
    of_class={},
    # drawn by the script that drew Imagenette's (T. Abraham, 2020): the level's share, rounded up
    wrong={"train": (0, 91, 452, 2_257, 4_513), "val": (0, 0, 0, 0, 0)},
    archives={
        side: archive("Imagewoof", side, "n02086240", TOTALS, sha256, size)
        for side, sha256, size in (
            (160, "663c22f69c2802d85e2a67103c017e047096702ffddf9149a14011b7002539bf", 92_560_471),
            (320, "4e4905ed7643120daaf9bf3b2ef7f3a7e8396d9bdaf254a38c6f01f618b4973d", 328_288_506),
        )
    },
    mean=(0.485, 0.456, 0.406),  # ImageNet's
    std=(0.229, 0.224, 0.225),
)


def imagewoof(
    split: str, noise: int = 0, size: int = 160, *, profile: str | None = None
) -> ImageStore:
    """One split of Imagewoof: train (8,525), tune (500) or val (3,929). As ``imagenette``."""
    return load(IMAGEWOOF, split, noise, size, profile)
