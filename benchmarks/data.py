"""The real images that the comparisons read."""

import os
from pathlib import Path

ROOT = Path(__file__).parent.parent
#: A folder with `mnist/` and `fashion-mnist/`, each with the four files of its data set.
FOLDER = Path(os.environ.get("COLLAPSEFLOW_DATA", ROOT.parent / "shared" / "data"))


def write_dataset(
    source: str, path: Path, train: int | None = None, test: int | None = None
) -> None:
    """Write ``mnist`` or ``fashion_mnist``, or a class-stratified sample of so many images, as
    the data set file of the workflow."""
    from collapseflow.images.sources.prepare import prepare_dataset

    entry = {
        "source": source,
        "location": [str(FOLDER / source.replace("_", "-"))],
        "class_names": None,
        "subset": {"train": train, "test": test},
    }
    prepare_dataset(entry, test_fraction=0.2, seed=0, cache=path.parent, output=path)
