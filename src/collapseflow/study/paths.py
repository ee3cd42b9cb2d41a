"""Names of states and feature sets, and the files of a study: a folder for each part of a name.

Below ``results/<study>/``::

    audit/<data set>.json                              what there is to know of the images
    weights/<backbone>/<start>.safetensors             a start that no seed touches
    weights/<backbone>/<start>/s<seed>.safetensors     pretrained here, or random
    training/<data set>/<run>/weights/                 a run's weights after each measured epoch
    training/<data set>/<run>/log.json                 loss, rate, gradient norm of each epoch
    features/<data set>/raw/, scattering/, <state>/<layer>/   train.h5 and test.h5
    statistics/<data set>/<run>/epochNNN.npz           what the measures need of each measured epoch
    statistics/<data set>/raw.npz, scattering.npz, <state>.npz    and of features before any epoch
    classification/, spectrum/, few_shot/, embeddings/<data set>/<feature set>...
    similarity/<data set>/<backbone>/<start>/<recipe>.json, vectors.json

where a run is ``<backbone>/<start>/<recipe>/s<seed>``, and a state ``<run>/epochNNN``, or, before
any epoch, ``<backbone>/<start>[/s<seed>]/epoch000``.
"""

from dataclasses import dataclass, replace
from functools import cached_property

from collapseflow.running.words import epoch_name
from collapseflow.study.schema import is_seeded


@dataclass(frozen=True)
class State:
    """Weights at one moment: of a start (``epoch`` 0, no ``recipe``), or of a run.

    ``seed`` is None for a start that no seed touches.
    """

    backbone: str
    start: str
    recipe: str = ""
    seed: int | None = None
    epoch: int = 0

    @cached_property
    def run(self) -> str:
        """The folder of the run, or of the start."""
        seed = "" if self.seed is None else f"s{self.seed}"
        return "/".join(filter(None, (self.backbone, self.start, self.recipe, seed)))

    @property
    def path(self) -> str:
        """The folder of the state."""
        return f"{self.run}/{epoch_name(self.epoch)}"

    def at(self, epoch: int) -> "State":
        """Another epoch of the same run; epoch 0 is the state that it starts from."""
        if epoch:
            return replace(self, epoch=epoch)
        seed = self.seed if is_seeded(self.start) else None
        return State(self.backbone, self.start, seed=seed)


@dataclass(frozen=True)
class FeatureSet:
    """Raw pixels, scattering coefficients (``name``), or a state read at a layer."""

    name: str = ""
    state: State | None = None
    layer: str = ""

    @property
    def path(self) -> str:
        """The folder of its stores."""
        return self.name or f"{self.state.path}/{self.layer}"

    @property
    def folder(self) -> str:
        """The folder that one job makes: with all layers of the state."""
        return self.name or self.state.path


class Files:
    """The files of one study, below ``results/<study>``."""

    def __init__(self, study: str):
        self.results = f"results/{study}"

    def dataset(self, dataset: str) -> str:
        """The images."""
        return f"{self.results}/data/{dataset}.h5"

    def audit(self, dataset: str) -> str:
        """What there is to know of the images."""
        return f"{self.results}/audit/{dataset}.json"

    def training(self, dataset: str, run: str) -> str:
        """The folder with a run's weights."""
        return f"{self.results}/training/{dataset}/{run}/weights"

    def log(self, dataset: str, run: str) -> str:
        """What a run's epochs were like."""
        return f"{self.results}/training/{dataset}/{run}/log.json"

    def statistics_of_run(self, dataset: str, run: str) -> str:
        """The folder with the statistics of a run's measured epochs."""
        return f"{self.results}/statistics/{dataset}/{run}"

    def statistics(self, dataset: str, folder: str) -> str:
        """The statistics of a folder of features, of all its layers."""
        return f"{self.results}/statistics/{dataset}/{folder}.npz"

    def statistics_made(self, dataset: str, features: FeatureSet) -> str:
        """What a job makes with the statistics of a feature set: of a run all measured epochs."""
        if features.state and features.state.epoch:
            return self.statistics_of_run(dataset, features.state.run)
        return self.statistics(dataset, features.folder)

    def features(self, dataset: str, folder: str) -> str:
        """The folder that a job makes for raw pixels, scattering, or all layers of a state."""
        return f"{self.results}/features/{dataset}/{folder}"

    def store(self, dataset: str, features: str, split: str) -> str:
        """One feature store."""
        return f"{self.results}/features/{dataset}/{features}/{split}.h5"

    def result(self, analysis: str, dataset: str, features: str) -> str:
        """What an analysis (:mod:`collapseflow.study.analyses`) gives of a feature set."""
        return f"{self.results}/{analysis}/{dataset}/{features}.json"

    def similarity(self, dataset: str, replicates: str) -> str:
        """The similarity of layers before and after the runs that differ by seed only; of a data
        set's files of vectors it is called ``vectors``."""
        return f"{self.results}/similarity/{dataset}/{replicates}.json"

    def embedding(self, dataset: str, features: str, embedded: str, method: str) -> str:
        """The coordinates of one t-SNE, of a split or of both in one map."""
        return f"{self.results}/embeddings/{dataset}/{features}/{embedded}-{method}.npz"
