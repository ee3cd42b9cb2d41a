"""Images that stand where a user says: what is known of them before the first job."""

from collections.abc import Mapping
from typing import Any

#: Sources of images of the user's, which a location names.
OWN = ("folder", "table")


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
    from collapseflow.images.sources import folder, table

    location = entry["location"][0]
    if entry["source"] == "folder":
        return len(folder.look_into(location).class_names)
    found = table.look_into(location, entry["columns"])
    return len(set(found.labels.tolist()))


def content(entry: Mapping[str, Any]) -> str | None:
    """What changes when an image is added, changed or removed; None for other sources.

    Raises
    ------
    UserError
        As :func:`n_classes`, and if files are missing.
    """
    from collapseflow.images.sources import folder, table

    if entry["source"] == "folder":
        return folder.content(entry["location"][0])
    if entry["source"] == "table":
        return table.content(entry["location"][0], entry["columns"], entry["on_bad_image"])
    return None
