"""Write the page of a study: one HTML file that needs nothing else and asks no network."""

import base64
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import jinja2
from PIL import Image

from collapseflow import __version__
from collapseflow.images.datasets import read_info, read_split
from collapseflow.measures.quantities import QUANTITIES
from collapseflow.presentation.figures.appearance import COLOURS, LINES
from collapseflow.presentation.figures.curves import LONG
from collapseflow.presentation.findings import LIMITS
from collapseflow.presentation.material import DescribedFeatures, DescribedRun
from collapseflow.presentation.page import explorer, geometry, numbers
from collapseflow.presentation.rows import failures_in_words, numbered_seeds, read_csv
from collapseflow.presentation.summary import how_in_words, recipe_in_words, versions_behind
from collapseflow.running.files import read_json, write_text

HERE = Path(__file__).parent
#: One script, in this order.
SCRIPTS = ("page.js", "curves.js", "sweeps.js", "geometry.js", "explorer.js")
#: By the category of a table or figure the part of the page that has it; others are behind the
#: fold.
PARTS = {
    "Classification": "features",
    "Features": "explore",
    "Neural collapse": "collapse",
    "Transfer": "collapse",
}
#: Tables and figures behind the fold whatever their category, by their rules.
FOLDED = ("plot_scattering", "plot_training")
#: Bytes of the whole page, which thumbnails are made small for.
MOST_BYTES = 11_000_000
#: Larger CSV files stay beside the page.
MOST_CSV_BYTES = 500_000
#: What a finding concludes, in words and as a sign that needs no colour.
VERDICTS = {"found": "✓", "not found": "✗", "cannot be told": "?"}


@dataclass(frozen=True)
class Sources:
    """What the page is made of.

    Attributes
    ----------
    measures, failures
        The two tables of :func:`collapseflow.presentation.rows.collect_measures`.
    findings
        What :func:`collapseflow.presentation.findings.as_records` gives, as JSON; its links are
        paths as in ``contents``.
    images
        Of each of ``datasets`` its file.
    tables
        All CSV files.
    results
        What was computed, which says what it was made with.
    classification
        For each seed of each of ``columns`` the file of what
        :func:`collapseflow.measures.probes.evaluate_all` gives.
    embeddings
        For each of ``columns`` that of :func:`collapseflow.measures.embedding.embed`.
    contents
        The tables and figures (:func:`collapseflow.study.products.contents`).
    geometry
        The runs whose class means move (:func:`collapseflow.study.products.geometry`).
    study
        As :func:`collapseflow.presentation.summary.write_summary` has it.
    runs, columns
        All runs of the study, and the feature sets that are compared, of all data sets.
    datasets, backbones, classifiers
        Labels by name.
    seed
        Of the samples of images in ``embeddings``.
    command
        What makes the study.
    """

    measures: str | Path
    failures: str | Path
    findings: str | Path
    images: Sequence[str | Path]
    tables: Sequence[str | Path]
    results: Sequence[str | Path]
    classification: Sequence[str | Path]
    embeddings: Sequence[str | Path]
    contents: Sequence[Mapping[str, Any]]
    geometry: Sequence[Mapping[str, Any]]
    study: Mapping[str, Any]
    runs: Sequence[DescribedRun]
    columns: Sequence[DescribedFeatures]
    datasets: Mapping[str, str]
    backbones: Mapping[str, str]
    classifiers: Mapping[str, str]
    seed: int
    command: str


def write_page(sources: Sources, output: str | Path) -> None:
    """Write the page, atomically, beside the folders of the study's tables and figures."""
    folder = Path(output).parent
    rows = read_csv(sources.measures)
    products = _told_apart(
        [_product(product, sources.datasets, folder) for product in sources.contents]
    )
    shown = {path for product in sources.contents for path in product["files"].values()}
    told = _explored(sources)
    page = {
        "study": sources.study,
        "command": sources.command,
        "date": date.fromtimestamp(Path(sources.measures).stat().st_mtime).isoformat(),
        "version": __version__,
        "how": how_in_words(sources.study),
        "recipes": {
            name: recipe_in_words(recipe) for name, recipe in sources.study["recipes"].items()
        },
        "datasets": _datasets(sources),
        "networks": _networks(sources),
        "findings": _findings(sources, products),
        "limits": LIMITS,
        "nc1": QUANTITIES["nc1"].meaning,
        "failed": failures_in_words(read_csv(sources.failures)),
        "key": numbers.before_and_after(rows, sources.runs, sources.datasets)
        if sources.runs
        else None,
        "compared": _compared(sources, rows, products),
        "parts": {
            part: [p for p in products if p["part"] == part]
            for part in ("features", "explore", "collapse", "fold")
        },
        "curves": numbers.curves(rows, sources.runs, sources.datasets, sources.backbones)
        if sources.runs
        else None,
        "geometry": geometry.moving(
            sources.geometry, dict(zip(sources.datasets, sources.images, strict=True))
        ),
        "lines": LINES,
        "colours": COLOURS,
        "long": LONG,
        "tables": [
            _download(path, folder)
            for path in map(Path, sources.tables)
            if path.relative_to(folder).as_posix() not in shown
        ],
        "versions": versions_behind(sources.results),
        "explored": [data for data, _ in told],
        "side": explorer.SIDES[0],
        "largest_side": explorer.SIDES[0],
        "per_side": explorer.PER_SIDE,
        "sheets": [[] for _ in told],
    }
    rest = len(_render(page).encode())
    page["side"], page["sheets"] = explorer.fitting_sheets(
        [images for _, images in told], MOST_BYTES - rest
    )
    write_text(output, _render(page))


def _render(page: Mapping[str, Any]) -> str:
    """The page; what comes from users is text, in HTML and in the data of the script."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # Data sets and measures keep their order in the data of the script.
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False}
    style = (HERE / "page.css").read_text(encoding="utf-8")
    script = "\n".join((HERE / name).read_text(encoding="utf-8") for name in SCRIPTS)
    template = environment.get_template("page.html")
    return template.render(**page, style=style, script=script, verdicts=VERDICTS)


def _product(
    product: Mapping[str, Any], datasets: Mapping[str, str], folder: Path
) -> dict[str, Any]:
    """A table or figure with what it shows: its picture as base64, its table."""
    files = product["files"]
    title = datasets.get(product["dataset"], "")
    heading = product["heading"]
    if not heading.startswith(title):
        # "Digits, fine-tuning: accuracy", "Digits: images".
        lower = f"{heading[0].lower()}{heading[1:]}"
        heading = f"{title}, {lower}" if ": " in heading else f"{title}: {lower}"
    stem = Path(next(iter(files.values()))).with_suffix("").as_posix()
    return {
        **product,
        "heading": heading,
        # Words between two backquotes are literal in a caption.
        "caption": product["caption"].replace("``", ""),
        "part": "fold" if product["rule"] in FOLDED else PARTS.get(product["category"], "fold"),
        "anchor": stem.replace("/", "-"),
        "stem": stem,
        "picture": _picture(folder / files["png"]) if "png" in files else None,
        "csv": _download(folder / files["csv"], folder) if "csv" in files else None,
        "table": read_json(folder / files["json"]) if "json" in files else None,
    }


def _told_apart(products: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same, each with ``apart``: what tells it from others of its heading, if there are any."""
    headings = Counter(product["heading"] for product in products)
    labels = Counter((product["heading"], product["label"]) for product in products)
    found = []
    for product in products:
        heading, label = product["heading"], product["label"]
        kind = "figure" if product["picture"] else "table"
        words = [] if heading.endswith(label) else [label]
        words += [kind] if labels[heading, label] > 1 else []
        found.append({**product, "apart": ", ".join(words) if headings[heading] > 1 else ""})
    return found


def _picture(path: Path) -> dict[str, Any]:
    """A picture as lossless WebP, which takes less than half of a PNG: base64, and its size."""
    content = io.BytesIO()
    with Image.open(path) as picture:
        picture.convert("RGB").save(content, "WEBP", lossless=True, quality=50, method=2)
        width, height = picture.size
    return {"content": _encoded(content.getvalue()), "width": width, "height": height}


def _encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _download(path: Path, folder: Path) -> dict[str, Any]:
    """A CSV file: its place, and its content as base64 unless it is large."""
    small = path.stat().st_size <= MOST_CSV_BYTES
    return {
        "path": path.relative_to(folder).as_posix(),
        "content": _encoded(path.read_bytes()) if small else None,
    }


def _datasets(sources: Sources) -> list[dict[str, Any]]:
    found = []
    for label, path in zip(sources.datasets.values(), sources.images, strict=True):
        info = read_info(path)
        found.append(
            {
                "label": label,
                "n": info.n,
                "n_classes": len(info.class_names),
                "source": info.source,
                "digest": info.sha256,
                "strips": explorer.strips(read_split(path, "train"), info.class_names),
            }
        )
    return found


def _networks(sources: Sources) -> list[dict[str, Any]]:
    """The trainings of the study: networks with their starts, data sets and seeds."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for run in sources.runs:
        network = found.setdefault(
            (run.label, run.start_label), {"epochs": run.last, "datasets": {}, "seeds": set()}
        )
        network["datasets"][sources.datasets[run.dataset]] = None
        network["seeds"].add(run.seed)
    return [
        {
            "label": label,
            "start": start,
            "epochs": network["epochs"],
            "datasets": list(network["datasets"]),
            "seeds": numbered_seeds(network["seeds"]),
        }
        for (label, start), network in found.items()
    ]


def _findings(sources: Sources, products: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The sentences, each with links to what the page has of its tables and figures."""
    places = {product["stem"]: product for product in products}
    found = []
    for finding in read_json(sources.findings):
        linked = [places.get(Path(link).with_suffix("").as_posix()) for link in finding["links"]]
        found.append({**finding, "products": [product for product in linked if product]})
    return found


def _compared(sources: Sources, rows: Any, products: list[dict[str, Any]]) -> list[dict]:
    """Of each data set the accuracies on its feature sets, and the differences of pairs."""
    found = []
    for dataset, label in sources.datasets.items():
        columns = [one for one in sources.columns if one.dataset == dataset]
        compared = numbers.compared_features(rows, columns, sources.classifiers)
        if compared is None:
            continue
        paths = [
            product["files"]["csv"]
            for product in products
            if product["rule"] == "tabulate_comparison" and product["dataset"] == dataset
        ]
        folder = Path(sources.measures).parent
        pairs = [numbers.differences(folder / p, columns, sources.classifiers) for p in paths]
        found.append({"label": label, "pairs": pairs[0] if pairs else {}, **compared})
    return found


def _explored(sources: Sources) -> list[tuple[dict[str, Any], Any]]:
    """What the explorer is told of each data set that has a map, and its images."""
    seeds = [max(1, len(one.seeds)) for one in sources.columns]
    files = iter(sources.classification)
    of_columns = [[next(files) for _ in range(n)] for n in seeds]
    found = []
    for (dataset, label), images in zip(sources.datasets.items(), sources.images, strict=True):
        places = [i for i, one in enumerate(sources.columns) if one.dataset == dataset]
        columns = [sources.columns[i] for i in places]
        maps = explorer.read_maps([sources.embeddings[i] for i in places], columns)
        if maps:
            data, pictures = explorer.describe(
                images,
                maps,
                columns,
                [path for i in places for path in of_columns[i]],
                sources.classifiers,
                sources.seed,
            )
            found.append(({"label": label, **data}, pictures))
    return found
