"""The data sets of the catalogue: what is known of each before it is read, and where its publisher has it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

# Of the training images of ILSVRC 2012, in 0..1: what networks for 224-pixel images are normalised by.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Normalisation(NamedTuple):
    """What is subtracted from pixels in 0..1, and by what they are divided then: a number a channel each."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def of(self, channels: int) -> Normalisation:
        """For images of that many channels; of another number the average over the channels, for each."""
        if len(self.mean) == channels:
            return self
        return Normalisation(*((sum(values) / len(values),) * channels for values in self))

    def words(self) -> str:
        """For people, as in "less 0.5, 0.5, 0.5, divided by 0.5, 0.5, 0.5"."""
        mean, std = (", ".join(f"{value:.4g}" for value in values) for values in self)
        return f"less {mean}, divided by {std}"


IMAGENET = Normalisation(IMAGENET_MEAN, IMAGENET_STD)


def resize_for(size: int) -> int:
    """Pixels to which a picture's shorter side is scaled before the middle `size` are taken, as the field tests."""
    return round(size * 256 / 224)


@dataclass(frozen=True, slots=True)
class Archive:
    """A file as its publisher gives it: what `mmkd data fetch` downloads and, where it is an archive, unpacks."""

    name: str
    url: str  # "": not to be downloaded without a person's agreement to a licence
    md5: str | None  # None: no checksum is published


@dataclass(frozen=True, slots=True)
class DatasetFacts:
    """A data set as its publisher gives it."""

    name: str
    title: str
    classes: tuple[str, ...]  # numbers where the names stand in the publisher's files
    channels: int
    size: int  # height = width, pixels
    train_images: int  # before the validation split is taken out
    test_images: int
    origin: str
    shift: int = 0  # pixels, at most, by which training images are moved; those in files are cropped at random instead
    flip: bool = True  # whether half of the training images are mirrored
    files: tuple[str, ...] = ()  # as published, less the ending .gz; folders end with /; none: the data set is embedded
    folders: tuple[str, ...] = ()  # where they are looked for: in the data root, or (absolute) where a system's package puts them
    archives: tuple[Archive, ...] = ()
    resize: int | None = None  # pixels of the shorter side before the middle is measured; None: see `resize_for`
    from_files: bool = False  # pictures are decoded as they are needed; else all pixels lie on the training device
    mean: tuple[float, ...] | None = None  # of the training pixels in 0..1, a number a channel; None: computed
    std: tuple[float, ...] | None = None
    validation_images: int | None = None  # None: drawn from the training images
    unpacked_bytes: int = 0  # that the publisher's archives come to, unpacked, roughly
    licence: str = ""  # what a person has to agree to before the files may be had

    @property
    def own_folders(self) -> tuple[str, ...]:
        """Those in the data root: a system's package may have packed the files anew, which changes their checksums."""
        return tuple(folder for folder in self.folders if not folder.startswith("/"))

    @property
    def scaled_to(self) -> int:
        """Pixels of a picture's shorter side before its middle `size` x `size` are measured."""
        if not self.from_files:
            return self.size
        return self.resize or resize_for(self.size)

    @property
    def augmentation(self) -> str:
        """What is done to training images, in words."""
        flip = ", horizontal flip" * self.flip
        if self.from_files:
            sides, first = f"{self.size}x{self.size}", self.scaled_to
            crop = f"random crop of 8 to 100 % of the area, scaled to {sides}{flip}"
            return f"{crop}; tests: shorter side to {first}, middle {sides}"
        return f"shift by up to {self.shift} pixel{'s' * (self.shift > 1)}{flip}"

    @property
    def embedded(self) -> bool:
        """Whether there is nothing to fetch: it comes with a library."""
        return not self.files and not self.own

    @property
    def own(self) -> bool:
        """Whether it is a user's own pictures, which `dataset.path` names."""
        return self.name in (FOLDER, SHARDS)

    @property
    def names_in_files(self) -> bool:
        """Whether `classes` are but numbers: the names stand in the publisher's files."""
        return self.classes[:1] == _numbered(1)


FOLDER = "imagefolder"  # a user's own pictures: its facts are those of the folder, see engine.image_folders
SHARDS = "webdataset"  # the same in archives, see engine.shards

CIFAR100 = (
    "apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle "
    "caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant flatfish "
    "forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle "
    "mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine "
    "possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar "
    "sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle wardrobe whale "
    "willow_tree wolf woman worm"
)


def _numbered(count: int) -> tuple[str, ...]:
    return tuple(f"class {number}" for number in range(1, count + 1))


DATASETS = {
    fact.name: fact
    for fact in (
        DatasetFacts(
            name="digits",
            title="Handwritten digits (UCI, by scikit-learn)",
            classes=tuple("0123456789"),
            channels=1,
            size=8,
            train_images=1200,
            test_images=597,
            origin="embedded in scikit-learn",
            shift=1,
            flip=False,
        ),
        DatasetFacts(
            name="fashion-mnist",
            title="Fashion-MNIST (Zalando)",
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
            channels=1,
            size=28,
            train_images=60_000,
            test_images=10_000,
            origin="github.com/zalandoresearch/fashion-mnist",
            shift=2,
            files=("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
            folders=("fashion-mnist", "FashionMNIST/raw", ".", "/usr/share/datasets/fashion-mnist"),
            archives=tuple(
                Archive(
                    f"{name}.gz",
                    f"https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/{name}.gz",
                    md5,
                )
                for name, md5 in (
                    ("train-images-idx3-ubyte", "8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
                    ("train-labels-idx1-ubyte", "25c81989df183df01b3e8a0aad5dffbe"),
                    ("t10k-images-idx3-ubyte", "bef4ecab320f06d8554ea6380940ec79"),
                    ("t10k-labels-idx1-ubyte", "bb300cfdad3c16e7a12a480ee83cd310"),
                )
            ),
            unpacked_bytes=31_000_000,
        ),
        DatasetFacts(
            name="mnist",
            title="MNIST handwritten digits",
            classes=tuple("0123456789"),
            channels=1,
            size=28,
            train_images=60_000,
            test_images=10_000,
            origin="yann.lecun.com/exdb/mnist",
            shift=2,
            flip=False,
            files=("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
            folders=("MNIST/raw", "mnist"),
            archives=tuple(
                Archive(f"{name}.gz", f"https://ossci-datasets.s3.amazonaws.com/mnist/{name}.gz", md5)
                for name, md5 in (
                    ("train-images-idx3-ubyte", "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
                    ("train-labels-idx1-ubyte", "d53e105ee54ea40749a09fcbcd1e9432"),
                    ("t10k-images-idx3-ubyte", "9fb629c4189551a2d022fa330f9573f3"),
                    ("t10k-labels-idx1-ubyte", "ec29112dd5afa0611ce80d1b7f02629c"),
                )
            ),
            unpacked_bytes=12_000_000,
        ),
        DatasetFacts(
            name="cifar-10",
            title="CIFAR-10 (Krizhevsky)",
            classes=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
            channels=3,
            size=32,
            train_images=50_000,
            test_images=10_000,
            origin="www.cs.toronto.edu/~kriz/cifar.html",
            shift=4,
            files=(
                *(f"cifar-10-batches-py/data_batch_{k}" for k in range(1, 6)),
                *(f"cifar-10-batches-py/{f}" for f in ("test_batch", "batches.meta")),
            ),
            folders=("cifar-10", "."),
            archives=(
                Archive(
                    "cifar-10-python.tar.gz",
                    "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
                    "c58f30108f718f92721af3b95e74349a",
                ),
            ),
            mean=(0.4914, 0.4822, 0.4465),
            std=(0.2470, 0.2435, 0.2616),
            unpacked_bytes=186_000_000,
        ),
        DatasetFacts(
            name="cifar-100",
            title="CIFAR-100 (Krizhevsky)",
            classes=tuple(CIFAR100.split()),
            channels=3,
            size=32,
            train_images=50_000,
            test_images=10_000,
            origin="www.cs.toronto.edu/~kriz/cifar.html",
            shift=4,
            files=("cifar-100-python/train", "cifar-100-python/test", "cifar-100-python/meta"),
            folders=("cifar-100", "."),
            archives=(
                Archive(
                    "cifar-100-python.tar.gz",
                    "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
                    "eb9058c3a382ffc7106e4002c42a8d85",
                ),
            ),
            mean=(0.5071, 0.4867, 0.4408),
            std=(0.2675, 0.2565, 0.2761),
            unpacked_bytes=186_000_000,
        ),
        DatasetFacts(
            name="stl-10",
            title="STL-10, labelled part (Coates)",
            classes=("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck"),
            channels=3,
            size=96,
            train_images=5_000,
            test_images=8_000,
            origin="cs.stanford.edu/~acoates/stl10",
            shift=12,
            files=tuple(f"stl10_binary/{name}" for name in ("train_X.bin", "train_y.bin", "test_X.bin", "test_y.bin")),
            folders=("stl-10", "."),
            archives=(
                Archive(
                    "stl10_binary.tar.gz",
                    "https://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz",
                    "91f7769df0f17e558f3565bffb0c7dfb",
                ),
            ),
            unpacked_bytes=3_130_000_000,
        ),
        DatasetFacts(
            name="tiny-imagenet",
            title="Tiny-ImageNet-200 (Stanford CS231n)",
            classes=_numbered(200),
            channels=3,
            size=64,
            train_images=100_000,
            test_images=10_000,  # the publisher's validation images: the labels of its test images are not published
            origin="cs231n.stanford.edu",
            shift=8,
            files=tuple(f"tiny-imagenet-200/{name}" for name in ("wnids.txt", "words.txt", "val/val_annotations.txt", "train/")),
            folders=("tiny-imagenet", "."),
            archives=(
                Archive(
                    "tiny-imagenet-200.zip",
                    "https://cs231n.stanford.edu/tiny-imagenet-200.zip",
                    "90528d7ca1a48142e341f4ef8d21d0de",
                ),
            ),
            unpacked_bytes=500_000_000,
        ),
        DatasetFacts(
            name="stanford-dogs",
            title="Stanford Dogs, 120 breeds (Khosla)",
            classes=_numbered(120),
            channels=3,
            size=224,
            train_images=12_000,
            test_images=8_580,
            origin="vision.stanford.edu/aditya86/ImageNetDogs",
            files=("Images/", "train_list.mat", "test_list.mat"),
            folders=("stanford-dogs", "StanfordDogs", "stanford_dogs"),
            archives=(
                Archive("images.tar", "https://vision.stanford.edu/aditya86/ImageNetDogs/images.tar", None),
                Archive("lists.tar", "https://vision.stanford.edu/aditya86/ImageNetDogs/lists.tar", None),
            ),
            from_files=True,
            mean=IMAGENET_MEAN,
            std=IMAGENET_STD,
            unpacked_bytes=780_000_000,
        ),
        DatasetFacts(
            name="cub-200",
            title="CUB-200-2011, birds (Caltech)",
            classes=_numbered(200),
            channels=3,
            size=224,
            train_images=5_994,
            test_images=5_794,
            origin="data.caltech.edu/records/65de6-vp158",
            files=tuple(
                f"CUB_200_2011/{name}"
                for name in ("images/", "images.txt", "image_class_labels.txt", "train_test_split.txt", "classes.txt")
            ),
            folders=("cub-200", "."),
            archives=(
                Archive(
                    "CUB_200_2011.tgz",
                    "https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz",
                    "97eceeb196236b17998738112f37df78",
                ),
            ),
            from_files=True,
            mean=IMAGENET_MEAN,
            std=IMAGENET_STD,
            unpacked_bytes=1_200_000_000,
        ),
        DatasetFacts(
            name="mit-67",
            title="MIT indoor scenes, 67 classes (Quattoni)",
            classes=_numbered(67),
            channels=3,
            size=224,
            train_images=5_360,
            test_images=1_340,
            origin="web.mit.edu/torralba/www/indoor.html",
            files=("Images/", "TrainImages.txt", "TestImages.txt"),
            folders=("mit-67", "MIT67", "mit67"),
            archives=(
                Archive("indoorCVPR_09.tar", "https://groups.csail.mit.edu/vision/LabelMe/NewImages/indoorCVPR_09.tar", None),
                Archive("TrainImages.txt", "https://web.mit.edu/torralba/www/TrainImages.txt", None),
                Archive("TestImages.txt", "https://web.mit.edu/torralba/www/TestImages.txt", None),
            ),
            from_files=True,
            mean=IMAGENET_MEAN,
            std=IMAGENET_STD,
            unpacked_bytes=2_600_000_000,
        ),
        DatasetFacts(
            name="imagenet",
            title="ImageNet (ILSVRC 2012)",
            classes=_numbered(1000),
            channels=3,
            size=224,
            train_images=1_281_167,
            test_images=50_000,  # the validation images: the labels of the test images are not published
            origin="image-net.org/challenges/LSVRC/2012",
            files=("train/", "val/"),
            folders=("imagenet", "ImageNet", "ILSVRC2012"),
            archives=(
                Archive("ILSVRC2012_devkit_t12.tar.gz", "", "fa75699e90414af021442c21a62c3abf"),
                Archive("ILSVRC2012_img_val.tar", "", "29b22e2961454d5413ddabcf34fc5622"),
                Archive("ILSVRC2012_img_train.tar", "", "1d675b47d978889d74fa0da5fadfb00e"),
            ),
            from_files=True,
            mean=IMAGENET_MEAN,
            std=IMAGENET_STD,
            unpacked_bytes=155_000_000_000,
            licence="ImageNet's terms of access, agreed to with an account on image-net.org",
        ),
        *(
            DatasetFacts(
                name=name,
                title=f"Your own pictures: {layout}",
                classes=(),
                channels=3,
                size=224,
                train_images=0,
                test_images=0,
                origin="the folder that dataset.path names",
                from_files=True,
                mean=IMAGENET_MEAN,
                std=IMAGENET_STD,
            )
            for name, layout in ((FOLDER, "a folder a class"), (SHARDS, "WebDataset shards"))
        ),
    )
}
