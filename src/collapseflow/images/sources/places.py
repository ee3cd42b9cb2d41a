"""Images that stand where a user says: what is known of them before the first job."""

from collections.abc import Mapping
from typing import Any

#: Sources of images of the user's, which a location names.
OWN = ("folder", "table", "arrays")


def class_names(entry: Mapping[str, Any]) -> list[str]:
    """The classes of a data set of one of :data:`OWN`, of which what can be known without a look at
    the images is in order.

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
        return folder.look_into(location).class_names
    found = (table if entry["source"] == "table" else arrays).look_into(location, entry["columns"])
    return [found.class_names[number] for number in np.unique(np.hstack(found.labels))]


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
    vectors; None for other sources, and for what is not in a cache.

    Raises
    ------
    UserError
        As :func:`class_names`, and if files are missing.
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
    if entry["source"] == "huggingface":
        location = (entry["location"] or [None])[0]
        return huggingface.content(location, entry["name"], entry["arguments"])
    return None
