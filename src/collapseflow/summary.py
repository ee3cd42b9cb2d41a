"""The one page with every figure and table of a study."""

import os
from collections.abc import Sequence
from pathlib import Path

from collapseflow.datasets import read_info
from collapseflow.files import versions, write_text
from collapseflow.tables import to_markdown

LIBRARIES = ("torch", "torchvision", "kymatio", "scikit-learn", "openTSNE", "scipy")
PRECISIONS = {
    "float32": "float32",
    "bfloat16": "bfloat16",
    "auto": "bfloat16 where the device has it, else in float32",
}


def write_summary(
    study: dict,
    datasets: dict[str, str | Path],
    sections: Sequence[tuple[str, Sequence[str]]],
    output: str | Path,
) -> None:
    """Write the page; figures are shown, Markdown tables are copied in.

    Parameters
    ----------
    study
        The checked content of the study file.
    datasets
        Labels of the data sets and their files.
    sections
        Headings, each with paths relative to the page.
    """
    output = Path(output)
    lines = [
        f"# Study `{study['study']}`",
        "",
        f"Seed {study['seed']}. Fine-tuning: {study['finetune']['epochs']} epochs. "
        f"Networks compute in {PRECISIONS[study['precision']]}.",
        "",
    ]
    rows = []
    for label, path in datasets.items():
        info = read_info(path)
        sizes = [f"{info.n[split]:,}" for split in ("train", "test")]
        rows.append([label, info.source, *sizes, f"`{info.sha256[:16]}…`"])
    lines += [to_markdown(["data set", "source", "train", "test", "SHA-256"], rows), ""]
    for heading, paths in sections:
        lines += [f"## {heading}", ""]
        for path in paths:
            if path.endswith(".png"):
                pdf = os.path.splitext(path)[0] + ".pdf"
                lines += [f"![{heading}]({path})", "", f"[PDF]({pdf})", ""]
            else:
                lines += [(output.parent / path).read_text(encoding="utf-8"), ""]
    lines += ["## Made with", "", versions(LIBRARIES) + ".", ""]
    write_text(output, "\n".join(lines))
