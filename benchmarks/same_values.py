"""Whether changed code prepares, trains and reads the same values, bit for bit, as a commit did.

    python benchmarks/same_values.py COMMIT

Runs a small study with the code of the commit and with that of this checkout, and compares what
every job makes of which users have much: data sets, weights, features and statistics. For each
script whose values are all equal, ``src/collapseflow/running/same_values.csv`` then says that the
digest of the commit stands for that of today: what was made with it stays valid.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import h5py
import numpy as np
import yaml
from PIL import Image
from safetensors.numpy import load_file
from sklearn.datasets import load_digits

from data import ROOT

TABLE = ROOT / "src" / "collapseflow" / "running" / "same_values.csv"
#: Scripts, and the files below a study's results that tell their values.
MADE_BY = {
    "prepare_dataset": ["data/*.h5"],
    "render_letters": ["pretraining/*.h5"],
    "initialize_weights": ["weights/*/random/**/*.safetensors"],
    "unpack_weights": ["weights/*/package.safetensors"],
    "pretrain": ["weights/*/pretrain*/**/*.safetensors"],
    "finetune": ["training/**/*.*"],
    "extract_raw": ["features/*/raw/*.h5"],
    "import_vectors": ["features/*/*/*.h5"],
    "extract_scattering": ["features/*/scattering/*.h5"],
    "extract_network": ["features/*/*/*/**/*.h5"],
    "reduce_features": ["statistics/*/*.npz", "statistics/**/epoch000.npz"],
    "reduce_epochs": ["statistics/**/epoch00[1-9].npz"],
    "classify": ["classification/**/*.json"],
    "embed": ["embeddings/**/*.npz"],
    "spectrum": ["spectrum/**/*.json"],
    "few_shot": ["few_shot/**/*.json"],
    "similarity": ["similarity/**/*.json"],
    "similarity_of_vectors": ["similarity/*/vectors.json"],
}
#: What they fetch has a published digest, which is checked: it is the same whatever the code.
DOWNLOADS = ("download_package", "download_weights")
#: By study, what it is made for, one after the other: Snakemake ends at rules of which none needs
#: another's files.
LAST_RULES = {
    "trained": [
        ["extract_raw", "extract_scattering", "extract_network"],
        ["reduce_features", "reduce_epochs"],
    ],
    "analysed": [["classify", "embed", "spectrum", "few_shot", "similarity"]],
    "imported": [["import_vectors"], ["similarity_of_vectors"]],
}
#: What results say of the machine, and of the versions that made them.
OF_MACHINE = {"seconds", "fit_seconds", "predict_seconds", "images_per_second", "made_with"}
#: What results of earlier code lack, which readers do without.
ADDED = {"mistaken_for"}
SGD = {"optimizer": "sgd", "learning_rate": 0.05, "momentum": 0.9, "epochs": 2, "batch_size": 32}
ADAM = {"optimizer": "adam", "learning_rate": 0.001, "epochs": 2, "batch_size": 32}


def trained_study(folder: Path) -> dict:
    """Each source of images that needs no network, each way to train, several layers."""
    for number, (image, label) in enumerate(zip(*load_digits(return_X_y=True), strict=True)):
        if number == 300:
            break
        path = folder / "images" / f"class{label}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image.reshape(8, 8) * 15).astype(np.uint8)).save(path)
    subset = {"train": 200, "test": 100}
    return {
        "study": "trained",
        "device": "cpu",
        "precision": "float32",
        "threads": 1,
        "datasets": {
            "digits": {"source": "digits", "subset": subset, "scattering": {"J": 1}},
            "mnist5k": {"source": "mnist5k", "subset": subset},
            "letters": {"source": "letters", "subset": subset},
            "own": {"source": "folder", "location": str(folder / "images"), "size": 12},
        },
        "backbones": {
            "shufflenet": {
                "model": "shufflenet_v2_x0_5",
                "image_size": 28,
                "weights": ["random", "pretrain", "pretrain-digits"],
                "layers": ["stage2.3", "penultimate"],
                "pool": "flatten",
            },
            "mobilenet_v2": {"image_size": 32, "weights": ["package"], "normalize": "none"},
            "alexnet": {"image_size": 64, "weights": ["random"], "layers": ["features.12"]},
        },
        "pretrain": {"images": 300, "epochs": 1, "batch_size": 64},
        "recipes": {
            "report_a": {"epochs": 2, "batch_size": 64},
            "report_a_faithful": {"epochs": 2, "batch_size": 64},
            "papyan": {"preset": "papyan2020", "epochs": 3, "batch_size": 32},
            "probe": {"preset": "linear_probe", "epochs": 2, "batch_size": 32},
            "cosine": {**SGD, "schedule": "cosine", "warmup": 1, "nesterov": True},
            "smooth": {**ADAM, "label_smoothing": 0.1, "augmentation": "shift+flip+crop"},
            "mse": {**ADAM, "optimizer": "adamw", "weight_decay": 0.01, "loss": "mse"},
        },
        "runs": [
            {"datasets": ["digits"], "backbones": ["shufflenet"], "starts": ["random"]},
            {
                "datasets": ["own"],
                "recipes": ["report_a"],
                "starts": ["pretrain", "pretrain-digits", "package"],
            },
        ],
        "features": [
            *("raw", "scattering", "alexnet-random"),
            *("shufflenet-finetuned", "mobilenet_v2-finetuned"),
        ],
    }


def analysed_study() -> dict:
    """All that is computed on features."""
    return {
        "study": "analysed",
        "device": "cpu",
        "precision": "float32",
        "threads": 1,
        "datasets": {"digits": {"source": "digits", "subset": {"train": 200, "test": 100}}},
        "backbones": {
            "shufflenet": {
                "model": "shufflenet_v2_x0_5",
                "image_size": 28,
                "weights": ["random"],
                "layers": ["stage2.3", "penultimate"],
            }
        },
        "recipes": {"report_a": {"epochs": 2, "batch_size": 64}},
        "features": ["raw", "shufflenet-finetuned"],
        "classifiers": ["default", "reports"],
        "analyses": ["spectrum", "few_shot", "similarity"],
        "embedding": {"n_samples": 150, "perplexity": 10},
        "variance": {"dataset": "digits", "features": ["raw"]},
    }


def imported_study(folder: Path) -> dict:
    """Vectors that were computed elsewhere, with what may stand beside them, in two formats."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    columns = {
        "labels": np.array(["one", "two", "three"])[np.arange(300) % 3],
        "split": np.array(["train", "train", "test"])[np.arange(300) // 3 % 3],
        "predictions": np.array(["one", "two", "three"])[rng.integers(0, 3, 300)],
        "weight": rng.normal(size=(3, 6)),
        "bias": rng.normal(size=3),
    }
    np.savez(folder / "a.npz", vectors=rng.normal(size=(300, 6)), **columns)
    with h5py.File(folder / "b.h5", "w") as file:
        file["vectors"] = rng.normal(size=(300, 4)).astype(np.float32)
    location = [str(folder / "a.npz"), str(folder / "b.h5")]
    return {
        "study": "imported",
        "threads": 1,
        "datasets": {"own": {"source": "features", "location": location}},
        "analyses": ["similarity"],
    }


def run(checkout: Path, folder: Path, study: dict) -> Path:
    """Make the results of a study with the code of a checkout; their folder."""
    folder.mkdir(parents=True)
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(study))
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "--directory", folder]
    command += ["--snakefile", checkout / "Snakefile", "--configfile", path, "--until"]
    for rules in LAST_RULES[study["study"]]:
        answer = subprocess.run(
            list(map(str, [*command, *rules])),
            cwd=checkout,
            env=environment(checkout),
            capture_output=True,
        )
        if answer.returncode:
            sys.exit(f"{checkout}:\n{answer.stderr.decode()[-3000:]}")
    return folder / "results" / study["study"]


def environment(checkout: Path) -> dict[str, str]:
    """Variables with which the package of a checkout is the one that is imported."""
    return {**os.environ, "PYTHONPATH": str(checkout / "src")}


def values(path: Path) -> Iterator[tuple[str, object]]:
    """The arrays of a file, as bytes with their type and shape, and what JSON says."""
    if path.suffix == ".json":
        yield (
            "",
            json.loads(
                path.read_text(),
                object_hook=lambda found: {
                    key: value for key, value in found.items() if key not in OF_MACHINE | ADDED
                },
            ),
        )
    elif path.suffix == ".safetensors":
        for name, array in load_file(path).items():
            yield name, (str(array.dtype), array.shape, array.tobytes())
    elif path.suffix == ".npz":
        with np.load(path) as file:
            for name, array in file.items():
                yield name, (str(array.dtype), array.shape, array.tobytes())
    else:
        found = []
        with h5py.File(path) as file:
            file.visititems(
                lambda name, item: (
                    found.append((name, item[()])) if isinstance(item, h5py.Dataset) else None
                )
            )
        for name, array in found:
            # Names of files, which no value depends on.
            if name == "names":
                continue
            yield name, (str(array.dtype), array.shape, np.asarray(array).tobytes())


def made_for(study: str) -> list[str]:
    """The scripts whose values a study shows: of the first that is made for none of the others."""
    others = {
        script: name
        for name, rules in LAST_RULES.items()
        for script in set().union(*rules)
        if name != "trained"
    }
    return [script for script in MADE_BY if others.get(script, "trained") == study]


def differing(before: Path, after: Path, patterns: Sequence[str]) -> list[str]:
    """Files of two folders of results that are not in both, or have other values."""
    # Snakemake leaves files of its own in folders.
    files = [
        {
            path.relative_to(results)
            for pattern in patterns
            for path in results.glob(pattern)
            if path.name[0] != "."
        }
        for results in (before, after)
    ]
    if not files[0]:
        sys.exit(f"the study makes no {' or '.join(patterns)}")
    only = files[0] ^ files[1]
    other = (
        path
        for path in files[0] & files[1]
        if dict(values(before / path)) != dict(values(after / path))
    )
    return sorted(map(str, [*only, *other]))


def digests(checkout: Path) -> dict[str, tuple[str, str]]:
    """Of each script the digest of its text, and the one that stands for it."""
    program = (
        "import json, sys; from pathlib import Path; from collapseflow.running import code;"
        "text = getattr(code, 'digest_of_text', code.digest);"
        "print(json.dumps({s: [f(Path(sys.argv[1]) / f'{s}.py') for f in (text, code.digest)]"
        " for s in sys.argv[2:]}))"
    )
    command = [sys.executable, "-c", program, checkout / "workflow" / "scripts"]
    command += [*MADE_BY, *DOWNLOADS]
    answer = subprocess.run(
        list(map(str, command)), env=environment(checkout), check=True, capture_output=True
    )
    return json.loads(answer.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("commit", help="with which users have trained")
    commit = parser.parse_args().commit
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        old = folder / "old"
        subprocess.run(["git", "worktree", "add", "--detach", old, commit], cwd=ROOT, check=True)
        try:
            changed = dict.fromkeys(DOWNLOADS, ())
            for study in (trained_study(folder), analysed_study(), imported_study(folder / "own")):
                name = study["study"]
                before = run(old, folder / name / "before", study)
                after = run(ROOT, folder / name / "after", study)
                for script in made_for(name):
                    changed[script] = differing(before, after, MADE_BY[script])
            earlier, today = digests(old), digests(ROOT)
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", old], cwd=ROOT, check=True)
    with TABLE.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["script", "digest", "stands_for"])
        for script, files in changed.items():
            text, stands_for = today[script][0], earlier[script][1]
            if files:
                print(f"{script}: other values in {', '.join(files)}")
            elif text != stands_for:
                table.writerow([script, text, stands_for])
                print(f"{script}: the same values")
    sys.exit(any(changed.values()))


if __name__ == "__main__":
    main()
