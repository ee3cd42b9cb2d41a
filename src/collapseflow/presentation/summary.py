"""The page of a study: what was found, and links to every figure and table."""

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from collapseflow.images.datasets import read_info
from collapseflow.presentation.findings import LIMITS
from collapseflow.presentation.rows import failures_in_words, numbered_seeds, read_csv
from collapseflow.presentation.tables.writing import markdown, to_markdown
from collapseflow.running.files import MADE_WITH, read_arrays, read_json, write_text
from collapseflow.running.words import as_word

#: In words, in which precision networks are trained and features are read.
TRAINED = {
    "float32": "in float32",
    "bfloat16": "in bfloat16",
    "auto": "in bfloat16 where the device has it, else in float32",
}
#: The figure beside the findings, by its rule: accuracy and collapse of each network, or without
#: networks the features of a data set, or its images.
KEY_FIGURES = ("plot_probes", "plot_vectors", "plot_embedding", "plot_samples")
#: The forms of figures and tables that a page links, and in which other forms there are these.
OTHER_FORMS = {"png": ("PDF",), "md": ("CSV", "TeX")}
READ = {
    "float32": "in float32",
    "tf32": "in TensorFloat-32, which rounds what is multiplied to 10 bits",
    "bfloat16": "in bfloat16, whose rounding puts a floor under NC1",
}


def write_summary(
    study: Mapping,
    datasets: Mapping[str, str | Path],
    failures: str | Path,
    findings: str | Path,
    contents: Sequence[Mapping[str, Any]],
    results: Iterable[str | Path],
    output: str | Path,
) -> None:
    """Write the page: findings and limits, one figure, links to all others and to the tables, and
    what was done with what.

    Parameters
    ----------
    study
        The keys ``study``, ``seeds``, ``precision``, ``precision_of_reading``, and ``recipes``: of
        each recipe that trains, by its name, the keys that the study file gives.
    datasets
        Labels of the data sets and their files.
    failures
        What :func:`collapseflow.presentation.rows.collect_measures` wrote of what failed.
    findings
        JSON: what :func:`collapseflow.presentation.findings.as_records` gives.
    contents
        The tables and figures (:func:`collapseflow.study.products.contents`); the page shows the
        first figure of :data:`KEY_FIGURES` that is among them.
    results
        The files behind them, which say what they were made with.
    """
    found = read_json(findings)
    figures = {one["rule"]: one for one in reversed(contents)}
    key = next((figures[rule] for rule in KEY_FIGURES if rule in figures), None)
    told = [one for one in found if one["kind"] != LIMITS]
    nothing = "Nothing: no two feature sets and no training have results."
    lines = [
        f"# Study `{study['study']}`",
        "",
        "## What was found",
        "",
        *([f"- {markdown(one['text'])}{_links(one['links'])}" for one in told] or [nothing]),
        "",
        *([f"![{markdown(key['heading'])}]({key['files']['png']})", ""] if key else []),
    ]
    limits = [f"- {markdown(one['text'])}" for one in found if one["kind"] == LIMITS]
    if limits:
        lines += ["## Limits", "", *limits, ""]
    failed = failures_in_words(read_csv(failures))
    if failed:
        lines += ["## What failed", "", *(f"- {markdown(line)}" for line in failed), ""]
    sections: dict[str, list[str]] = {}
    for one in contents:
        paths = [path for suffix, path in one["files"].items() if suffix in OTHER_FORMS]
        sections.setdefault(one["heading"], []).extend(paths)
    lines += [
        "## Tables and figures",
        "",
        *(f"- {markdown(heading)}:{_files(paths)}" for heading, paths in sections.items()),
        "- Every measure, a row each: [measures.csv](measures.csv)",
        "",
        "## What was done",
        "",
    ]
    lines += [
        how_in_words(study),
        "",
        *(
            f"- Recipe `{name}`: {markdown(recipe_in_words(recipe))}."
            for name, recipe in study["recipes"].items()
        ),
        "",
    ]
    rows = []
    for label, path in datasets.items():
        info = read_info(path)
        sizes = [f"{info.n[split]:,}" for split in ("train", "test")]
        rows.append([label, info.source, *sizes, f"{info.sha256[:16]}…"])
    lines += [to_markdown(["data set", "source", "train", "test", "SHA-256"], rows), ""]
    lines += ["## Made with", "", *versions_behind(results), ""]
    write_text(output, "\n".join(lines))


def _links(paths: Iterable[str]) -> str:
    """Where a finding's numbers stand."""
    links = [f"[{Path(path).stem}]({path})" for path in paths]
    return f" ({', '.join(links)})" if links else ""


def _files(paths: Iterable[str]) -> str:
    """The tables and figures of a section, each in all its forms."""
    words = []
    for path in paths:
        stem, suffix = os.path.splitext(path)
        others = [f"[{name}]({stem}.{name.lower()})" for name in OTHER_FORMS[suffix[1:]]]
        words.append(
            f" [{Path(stem).relative_to(Path(stem).parts[0])}]({path}) ({', '.join(others)})"
        )
    return ",".join(words)


def how_in_words(study: Mapping) -> str:
    """With which seeds and in which precision the numbers of a study were made."""
    read = READ[study["precision_of_reading"]]
    if not study["recipes"]:
        return f"Features are read {read}."
    seeds = numbered_seeds(study["seeds"]).capitalize()
    trained = TRAINED[study["precision"]]
    return f"{seeds}. Networks are trained {trained}; features are read {read}."


def recipe_in_words(recipe: Mapping) -> str:
    """The keys of a recipe with their values."""
    words = [
        f"{key.replace('_', ' ')} {' and '.join(map(as_word, value))}"
        if isinstance(value, list)
        else f"{key.replace('_', ' ')} {as_word(value)}"
        for key, value in recipe.items()
    ]
    return ", ".join(words) or "the defaults"


def versions_behind(results: Iterable[str | Path]) -> list[str]:
    """The versions that results were made with; with each how many, if they differ."""
    counts = Counter(line for path in results for line in _made_with(path))
    if len(counts) == 1:
        return [f"{line}." for line in counts]
    return [f"- {n} results: {line}." for line, n in counts.most_common()]


def _made_with(path: str | Path) -> list[str]:
    """What stands in a data set, an embedding, statistics or a folder of them, or a JSON file of
    results: one result or a table of them."""
    if Path(path).is_dir():
        return sorted({line for file in Path(path).glob("*.npz") for line in _made_with(file)})
    if Path(path).suffix == ".h5":
        return read_info(path).made_with
    if Path(path).suffix == ".npz":
        return read_arrays(path)[MADE_WITH].tolist()
    content = read_json(path)
    # What failed was made with nothing, or says its reason in place of a result.
    results = [content, *(one for one in content.values() if isinstance(one, dict))]
    return sorted({line for result in results for line in result.get(MADE_WITH, [])})
