"""Nobody reads a file of a study past its checksums: who reads otherwise is named, with why."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "collapseflow"
#: What reads a file by its path: by itself, as a method of a path, or of a library.
FUNCTIONS = {"open", "FileIO", "safe_open"}
METHODS = {"open", "read_text", "read_bytes", "load_file"}
OF_LIBRARIES = {("np", "load"), ("torch", "load"), ("pd", "read_csv"), ("h5py", "File")}
#: Rooms of which the files are no study's: the machine's, the users', this package's.
ELSEWHERE = ("running/", "images/sources/", "published/")
ALLOWED = {
    "images/datasets.py": "HDF5, of checked bytes",
    "features/stores.py": "HDF5, of checked bytes",
    "features/weights.py": "weights after `check`, and users' own, which have no checksums",
    "features/packages.py": "wheels, with SHA-256",
    "features/families/module.py": "the user's own modules",
    "rows.py": "writes vectors as HDF5, and reads none",
    "presentation/captions.py": "the table that was just written",
    "presentation/logs.py": "the user's log of a training",
    "presentation/page/tables.py": "tables in Markdown, which are for readers",
    "presentation/page/writing.py": "pictures and tables to hand on; its own style and script",
    "presentation/rows.py": "tables, of checked bytes",
    "presentation/summary.py": "tables in Markdown, which are for readers",
    "presentation/tables/runtime.py": "Snakemake's benchmarks",
    "study/forecast.py": "Snakemake's benchmarks",
    "study/file.py": "the user's study file",
    "training/worker.py": "what processes tell each other",
    "training/parallel.py": "what processes tell each other",
    "verification.py": "all kinds, after `check`",
}
PATHS = {path.relative_to(PACKAGE).as_posix(): path for path in PACKAGE.rglob("*.py")}
PATHS |= {f"workflow/{path.name}": path for path in (ROOT / "workflow/scripts").glob("*.py")}


def readers(text):
    """The readers of files that a module calls."""
    calls = [node.func for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
    for call in calls:
        if isinstance(call, ast.Name) and call.id in FUNCTIONS:
            yield call.id
        if isinstance(call, ast.Attribute):
            of = getattr(call.value, "id", None)
            if call.attr in METHODS or (of, call.attr) in OF_LIBRARIES:
                yield call.attr


@pytest.mark.parametrize(
    "name", [n for n in PATHS if not n.startswith(ELSEWHERE) and n not in ALLOWED]
)
def test_results_are_read_by_readers_that_check_them(name):
    found = sorted(set(readers(PATHS[name].read_text(encoding="utf-8"))))
    assert not found, (
        "open_checked, read_json, read_arrays, open_hdf5, load_state and the read_csv of this "
        "package check what they read"
    )


def test_readers_are_recognised():
    text = 'open("a"); p.read_text(); np.load(p); pd.read_csv(p); h5py.File(p); torch.load(p)'
    assert list(readers(text)) == ["open", "read_text", "load", "read_csv", "File", "load"]
    assert not list(readers("json.load(f); read_csv(p); load(study); read_json(p)"))
