"""Images that stand where a user says: what is known of them before the first job."""

from collections.abc import Mapping
from typing import Any

#: Sources of images of the user's, which a location names.
OWN = ("folder", "table", "arrays")


def n_classes(entry: Mapping[str, Any]) -> int:
    """The number of classes of a data set of one of :data:`OWN`, of which what can be known without
    a look at the images is in order.

    Parameters
    ----------
    entry
        The data set in the study file.

    Raises
    ------
    UserError
        Naming the place and what is wrong with it.
    """
    # Reading images needs libraries; only those who have some wait for these.
    import numpy as np

    from collapseflow.images.sources import arrays, folder, table

    location = entry["location"][0]
    if entry["source"] == "folder":
        return len(folder.look_into(location).class_names)
    source = table if entry["source"] == "table" else arrays
    labels = source.look_into(location, entry["columns"]).labels
    return len(set(np.concatenate(labels) if source is arrays else labels))


def check_saved(entry: Mapping[str, Any]) -> None:
    """Refuse a data set of the source ``huggingface`` that is not there, or has no labelled images,
    or other classes than the study file names.

    Raises
    ------
    UserError
        As :func:`collapseflow.images.sources.huggingface.look_into`, behind the key.
    """
    import numpy as np

    from collapseflow.images.datasets import names_of
    from collapseflow.images.sources import huggingface

    location = (entry["location"] or [None])[0]
    found = huggingface.look_into(location, entry["name"], entry["arguments"], entry["columns"])
    names_of(np.concatenate(found.labels), found.class_names, entry["class_names"])


def content(entry: Mapping[str, Any]) -> str | None:
    """What changes when an image is added, changed or removed, or the file that has the labels of
    vectors; None for other sources.

    Raises
    ------
    UserError
        As :func:`n_classes`, and if files are missing.
    """
    from collapseflow.images.sources import arrays, folder, huggingface, table, vectors

    if entry["source"] == "features":
        return vectors.content(entry["location"])
    if entry["source"] == "folder":
        return folder.content(entry["location"][0])
    if entry["source"] == "table":
        return table.content(entry["location"][0], entry["columns"], entry["on_bad_image"])
    if entry["source"] == "arrays":
        return arrays.content(entry["location"][0])
    # What is in a cache changes with its revision alone.
    if entry["source"] == "huggingface" and entry["location"]:
        return huggingface.content(entry["location"][0])
    return None
