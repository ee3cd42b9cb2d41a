"""``python -m collapseflow COMMAND``: tell what a study would do, check files and study files, list
layers, compare studies and definitions."""

import argparse
import json
import logging
import os
import sys
from pathlib import Path

from collapseflow.running.errors import UserError


def verify(arguments: argparse.Namespace) -> None:
    from collapseflow.verification import verify as verify_file

    damaged = []
    for path in arguments.file:
        try:
            print(verify_file(path))
        except UserError as error:
            damaged.append(str(error))
    if damaged:
        raise UserError("\n".join(damaged))


def check_config(arguments: argparse.Namespace) -> None:
    from collapseflow.features.families.module import look_in
    from collapseflow.study.check import check_against_libraries
    from collapseflow.study.file import parse, read
    from collapseflow.study.schema import load

    if arguments.file == "-":
        study = load(parse(sys.stdin.read(), "standard input"))
    else:
        look_in([Path(arguments.file).parent])
        study = load(read(arguments.file))
    # What is found beside mistakes.
    logging.basicConfig(format="%(message)s")
    logging.getLogger("collapseflow").setLevel(logging.INFO)
    lines = check_against_libraries(study)
    if lines:
        raise UserError("\n".join(lines))
    print(
        f"{arguments.file}: all right; study {study.study}, data sets {', '.join(study.datasets)}, "
        f"backbones {', '.join(study.backbones) or 'none'}"
    )


def plan(arguments: argparse.Namespace) -> None:
    from collapseflow.running.engine import dry_run

    snakefile = Path(__file__).resolve().parents[2] / "Snakefile"
    if not snakefile.is_file():
        raise UserError(f"{snakefile}: not found; call this in a checkout of the workflow")
    files = ["--configfile", *arguments.study] if arguments.study else []
    print(dry_run(["--snakefile", str(snakefile), *files]) or "Nothing to do: all is there")


def layers(arguments: argparse.Namespace) -> None:
    from collapseflow.features.checks import layer_shapes
    from collapseflow.features.families import all_models, family_of
    from collapseflow.features.known import Architecture
    from collapseflow.features.networks import penultimate_layer

    if arguments.model is None:
        print("\n".join(all_models()))
        return
    family_of(arguments.model).require(arguments.model)
    shapes = layer_shapes(arguments.model, arguments.image_size)
    default = penultimate_layer(Architecture(arguments.model, arguments.image_size))
    width = max(map(len, shapes))
    for name, shape in shapes.items():
        note = "   (default)" if name == default else ""
        print(f"{name:{width}}  {' x '.join(map(str, shape))}{note}")


def schema(arguments: argparse.Namespace) -> None:
    from collapseflow.study.json_schema import json_schema

    print(json.dumps(json_schema(), indent=2))


def compare(arguments: argparse.Namespace) -> None:
    from collapseflow.presentation.comparison import compare_studies

    print(compare_studies(arguments.study, arguments.csv), end="")


def definitions(arguments: argparse.Namespace) -> None:
    from collapseflow.measures.definitions import compare_definitions
    from collapseflow.measures.statistics import read_statistics
    from collapseflow.presentation.tables.writing import to_markdown
    from collapseflow.running.errors import instead

    if not arguments.file.endswith(".npz"):
        raise UserError(
            f"{arguments.file}: holds no statistics of features; allowed: a file "
            "results/<study>/statistics/**/*.npz"
        )
    state = read_statistics(arguments.file)
    if state.failed is not None:
        raise UserError(f"{arguments.file}: holds no statistics: {state.failed}")
    layer = arguments.layer
    if layer is None and len(state.layers) == 1:
        (layer,) = state.layers
    if layer not in state.layers:
        what = "name one" if layer is None else f"{layer!r} is unknown"
        if list(state.layers) == [""]:
            raise UserError(f"layer: {what}; these features have no layers: leave it out")
        raise UserError(f"layer: {what}; {instead(layer, state.layers)}")
    if arguments.split not in state.layers[layer]:
        raise UserError(
            f"split: {arguments.file} has no {arguments.split!r}; "
            f"allowed: {', '.join(state.layers[layer])}"
        )
    try:
        rows = compare_definitions(state.layers[layer][arguments.split])
    except ValueError as error:
        raise UserError(f"{arguments.file}: {error}") from None
    cells = [
        (row["quantity"], row["preset"], row["words"], f"{row['value']:#.4g}".removesuffix("."))
        for row in rows
    ]
    print(to_markdown(["quantity", "preset", "definition", "value"], cells, n_left=3), end="")


def positive(text: str) -> int:
    """A whole number from 1."""
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def main(argv: list[str] | None = None) -> int:
    """Run one command; the exit status is 1 for a :class:`UserError`, whose text is printed."""
    parser = argparse.ArgumentParser(prog="python -m collapseflow")
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("verify", help="check files of a study from first to last byte")
    command.add_argument("file", nargs="+", help="or a folder: all files in it")
    command.set_defaults(run=verify)
    command = commands.add_parser(
        "check-config", help="check a study file as the workflow does before its first job"
    )
    command.add_argument("file", help="YAML, or - for standard input")
    command.set_defaults(run=check_config)
    command = commands.add_parser(
        "plan", help="what `snakemake` would do in this folder, why, and what it would take"
    )
    command.add_argument("study", nargs="*", help="study files, as --configfile takes them")
    command.set_defaults(run=plan)
    command = commands.add_parser(
        "layers", help="the layers of a network and the shapes of their outputs"
    )
    command.add_argument("model", nargs="?", help="without it: all models")
    command.add_argument("--image-size", type=positive, default=224, help="pixels a side (224)")
    command.set_defaults(run=layers)
    command = commands.add_parser("schema", help="the JSON schema of study files, for editors")
    command.set_defaults(run=schema)
    command = commands.add_parser(
        "compare", help="the measures of several studies side by side, as a Markdown table"
    )
    command.add_argument("study", nargs="+", help="a folder results/<study>, or a measures.csv")
    command.add_argument("--csv", metavar="FILE", help="write the rows of all studies to FILE")
    command.set_defaults(run=compare)
    command = commands.add_parser(
        "definitions", help="the measures of collapse as others define them, on the same features"
    )
    command.add_argument("file", help="statistics of a state, results/<study>/statistics/**.npz")
    command.add_argument("--layer", help="where the file holds more than one")
    splits = ["train", "test", "train_matched", "train_true", "train_matched_true"]
    command.add_argument("--split", choices=splits, default="train")
    command.set_defaults(run=definitions)
    arguments = parser.parse_args(argv)
    try:
        arguments.run(arguments)
    except UserError as error:
        print(error)
        return 1
    except ModuleNotFoundError as error:
        if error.name in (None, "collapseflow") or "." in error.name:
            raise
        print(f"{error.name}: not installed; in a checkout, pip install '.[workflow]' does it")
        return 1
    except (ImportError, MemoryError) as error:
        if isinstance(error, ImportError) and "failed to map" not in str(error):
            raise
        print(f"{str(error) or 'out of memory'}; allow this process more memory (ulimit -v)")
        return 1
    return 0


def use_the_checkout_here() -> None:
    """Start again with the package of the checkout that this is run in, if another is installed.

    What PYTHONPATH names stays: the workflow says there which checkout it is.
    """
    own = Path(__file__).resolve().parents[1]
    named = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    here = Path.cwd().resolve()
    sources = (folder / "src" for folder in (here, *here.parents))
    beside = next((path for path in sources if (path / "collapseflow/__main__.py").is_file()), own)
    if beside != own and not {beside, own} & {Path(path).resolve() for path in named}:
        os.environ["PYTHONPATH"] = os.pathsep.join([str(beside), *named])
        os.execv(sys.executable, [sys.executable, "-m", "collapseflow", *sys.argv[1:]])


if __name__ == "__main__":
    use_the_checkout_here()
    sys.exit(main())
