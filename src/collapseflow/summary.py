"""The one page with every figure and table of a study."""

import os
from collections.abc import Sequence
from pathlib import Path

from collapseflow.files import versions, write_text

LIBRARIES = ("torch", "torchvision", "kymatio", "scikit-learn", "openTSNE", "scipy")


def write_summary(
    study: dict, sections: Sequence[tuple[str, Sequence[str]]], output: str | Path
) -> None:
    """Write the page; figures are shown, Markdown tables are copied in.

    Parameters
    ----------
    study
        The checked content of the study file.
    sections
        Headings, each with paths relative to the page.
    """
    output = Path(output)
    sources = ", ".join(f"{name} ({entry['source']})" for name, entry in study["datasets"].items())
    lines = [
        f"# Study `{study['study']}`",
        "",
        f"Data sets: {sources}. Seed {study['seed']}. "
        f"Fine-tuning: {study['finetune']['epochs']} epochs.",
        "",
    ]
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
