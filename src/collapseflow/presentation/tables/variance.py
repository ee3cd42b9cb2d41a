"""Report B's variances beside the published ones."""

import pandas as pd

from collapseflow import published
from collapseflow.images.datasets import read_info
from collapseflow.measures.quantities import quantity
from collapseflow.measures.variance import compare_variances
from collapseflow.presentation.material import Material, Outputs
from collapseflow.presentation.tables.writing import failed_in_words, write_table

#: Of more classes than these the table shows so many of each kind of row; the CSV has all.
MOST_CLASSES = 20
MOST_ROWS = 10


def variance_table(material: Material, outputs: Outputs) -> None:
    """Report B's variances (:func:`collapseflow.measures.variance.compare_variances`) beside the
    published ones.

    Of more than :data:`MOST_CLASSES` classes Markdown and LaTeX have the :data:`MOST_ROWS` classes
    with the largest variances, and as many pairs whose means are nearest.
    """
    features, identities = material.variance_features, material.variance_identities
    class_names = read_info(material.variance_images).class_names
    values = compare_variances(
        list(features), material.variance_states, material.variance_embeddings
    )
    known = published.variances()
    kinds = {"intra_class": "intra", "pooled_pair": "inter"}

    def lookup(record: dict) -> float | None:
        name = material.variance_published.get(record["features"])
        if name is None or record["space"] != "t-SNE coordinates":
            return None
        kind = kinds.get(record["quantity"])
        return known.get((*name, record["split"], kind, record["class_a"], record["class_b"]))

    names = ["features", "split", "space", "quantity", "class_a", "class_b", "value", "published"]
    keys = list(dict.fromkeys(key for identity in identities.values() for key in identity))
    tidy = pd.DataFrame(
        [{**identities[r["features"]], **r, "published": lookup(r)} for r in values],
        columns=[*keys, *names],
    )
    tidy["class_b"] = tidy["class_b"].astype("Int64")
    columns = [
        *(("t-SNE coordinates", name) for name in ("intra_class", "pooled_pair")),
        *(("features", name) for name in ("intra_class", "pooled_pair", "mean_distance")),
    ]
    rows = []
    keys = ["features", "split", "class_a", "class_b"]
    shown = tidy if len(class_names) <= MOST_CLASSES else _extreme(tidy)
    for (feature, split, a, b), group in shown.groupby(keys, dropna=False, sort=False):
        pair = class_names[a] if pd.isna(b) else f"{class_names[a]} / {class_names[b]}"
        by_column = group.set_index(["space", "quantity"])
        cells = []
        for space, name in columns:
            if (space, name) not in by_column.index:
                cells.append("")
                continue
            cell = by_column.loc[(space, name)]
            text = f"{cell['value']:.4g}" if space == "features" else f"{cell['value']:.1f}"
            if pd.notna(cell["published"]):
                text += f" ({cell['published']:.1f})"
            cells.append(text)
        rows.append([f"{features[feature]}, {split}: {pair}", *cells])
    notes = [
        "On the t-SNE coordinates, as report B computed them: mean over the two coordinates of "
        "the variance of a class, or of the union of two classes. On the features, as it meant "
        "them: trace of the covariance of a class, or of the union of two classes, and squared "
        "distance of the class means."
    ]
    if len(shown) < len(tidy):
        notes.append(
            f"Of {len(class_names):,} classes, on each feature set and split: the {MOST_ROWS} with "
            f"the largest variances of features, and the {MOST_ROWS} pairs with the nearest means; "
            "the CSV has all."
        )
    if tidy["published"].notna().any():
        notes.append("In brackets: published in report B.")
    there = set(tidy["features"])
    notes += failed_in_words([label for name, label in features.items() if name not in there])
    words = [
        f"{quantity(name).label}, {space.removesuffix(' coordinates')}" for space, name in columns
    ]
    write_table(outputs, tidy, ["classes", *words], rows, notes)


def _extreme(tidy: pd.DataFrame) -> pd.DataFrame:
    """The rows of the classes with the largest variances and of the pairs with the nearest means,
    on each feature set and split."""
    keys = ["features", "split", "class_a", "class_b"]
    of_features = tidy[tidy["space"] == "features"].sort_values("value", kind="stable")
    chosen = []
    for quantity_name, is_kept in (("intra_class", "tail"), ("mean_distance", "head")):
        rows = of_features[of_features["quantity"] == quantity_name]
        groups = rows.groupby(["features", "split"], sort=False)
        chosen.append(getattr(groups, is_kept)(MOST_ROWS)[keys])
    wanted = pd.MultiIndex.from_frame(pd.concat(chosen).fillna({"class_b": -1}))
    return tidy[pd.MultiIndex.from_frame(tidy[keys].fillna({"class_b": -1})).isin(wanted)]
