"""Numbers that the two reports published (see README.md in this folder)."""

from importlib.resources import files

import pandas as pd


def _read(name: str) -> pd.DataFrame:
    with files(__name__).joinpath(name).open(encoding="utf-8") as handle:
        return pd.read_csv(handle, comment="#")


def accuracies() -> dict[tuple[str, str, str], float]:
    """Report A, tables 1 and 2: percent by (data set, features, classifier)."""
    table = _read("report_a_tables_1_2.csv")
    keys = zip(table["dataset"], table["features"], table["classifier"], strict=True)
    return dict(zip(keys, table["accuracy_percent"], strict=True))


def curves() -> pd.DataFrame:
    """Report A, figures 4 and 5: columns measure, dataset, features, split, epoch, value.

    Accuracies are fractions; ``nc1`` is the measure itself, not its logarithm.
    """
    accuracy = _read("report_a_fig4.csv")
    accuracy = accuracy.assign(measure="accuracy", value=accuracy["accuracy_percent"] / 100)
    collapse = _read("report_a_fig5.csv").assign(split="train")
    logarithm = collapse["measure"] == "log10_nc1"
    collapse.loc[logarithm, "value"] = 10 ** collapse.loc[logarithm, "value"]
    collapse["measure"] = collapse["measure"].replace(
        {"log10_nc1": "nc1", "max_angle": "maximal_angle"}
    )
    both = pd.concat([accuracy, collapse], ignore_index=True)
    both["features"] = both["backbone"] + "_finetuned"
    return both[["measure", "dataset", "features", "split", "epoch", "value"]]


def variances() -> dict[tuple, float]:
    """Report B: by (data set, features, split, intra or inter, class a, class b or None)."""
    table = _read("report_b_variances.csv")
    return {
        (r.dataset, r.features, r.split, r.kind, int(r.class_a),
         None if pd.isna(r.class_b) else int(r.class_b)): r.variance
        for r in table.itertuples()
    }  # fmt: skip


def runtimes() -> dict[tuple[str, str, str], float]:
    """Report B: minutes by (data set, features, stage)."""
    table = _read("report_b_runtime.csv")
    keys = zip(table["dataset"], table["features"], table["stage"], strict=True)
    return dict(zip(keys, table["minutes"], strict=True))
