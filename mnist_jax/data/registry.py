"""Registry of the data sets: their files, pinned checksums and mirrors."""

from dataclasses import dataclass

DIGITS = tuple("0123456789")


@dataclass(frozen=True)
class File:
    """One file of a data set.

    Attributes:
        name: official file name, without `.gz`.
        axes: number of axes of the array: 3 for images, 1 for labels.
        size: size of the gzipped file in bytes.
        sha256: checksum of the gzipped file, as pinned by tensorflow-datasets (a test compares the two).
        raw_sha256: checksum of the uncompressed file, or None if unknown.
    """

    name: str
    axes: int
    size: int
    sha256: str
    raw_sha256: str | None = None


@dataclass(frozen=True)
class Source:
    """The source of a data set.

    Attributes:
        files: training images, training labels, test images and test labels.
        mirrors: base URLs, in the order in which they are tried.
        classes: names of the ten classes.
    """

    files: tuple[File, File, File, File]
    mirrors: tuple[str, ...]
    classes: tuple[str, ...] = DIGITS


def _files(*pinned: tuple[int, str, str | None]) -> tuple[File, File, File, File]:
    """The four files under their official names, with the given sizes and checksums."""
    names = "train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"
    a, b, c, d = (
        File(f"{name}-ubyte", int(name[-1]), *sums) for name, sums in zip(names, pinned, strict=True)
    )
    return a, b, c, d


SOURCES: dict[str, Source] = {
    "mnist": Source(
        _files(
            (
                9912422,
                "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
                "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            ),
            (
                28881,
                "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
                "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            ),
            (
                1648877,
                "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
                "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            ),
            (
                4542,
                "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
                "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
            ),
        ),
        mirrors=(
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
        ),
    ),
    "fashion_mnist": Source(
        _files(
            (26421880, "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84", None),
            (29515, "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845", None),
            (4422102, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073", None),
            (5148, "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5", None),
        ),
        mirrors=("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
        classes=(
            "T-shirt/top",
            "Trouser",
            "Pullover",
            "Dress",
            "Coat",
            "Sandal",
            "Shirt",
            "Sneaker",
            "Bag",
            "Ankle boot",
        ),
    ),
    "kmnist": Source(
        _files(
            (18165135, "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4", None),
            (29497, "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17", None),
            (3041136, "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5", None),
            (5120, "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c", None),
        ),
        mirrors=("http://codh.rois.ac.jp/kmnist/dataset/kmnist/",),
        classes=("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
    ),
}


DATASETS = (*SOURCES, "digits")


def classes(dataset: str) -> tuple[str, ...]:
    """The names of the ten classes of a data set of `DATASETS`."""
    return SOURCES[dataset].classes if dataset in SOURCES else DIGITS


def numbered(num_classes: int) -> tuple[str, ...]:
    """Names for classes that have none: their numbers, from 0."""
    return tuple(map(str, range(num_classes)))
