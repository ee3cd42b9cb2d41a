"""The checked study and the functions that rules call; no rules here."""

import os
import sys
from pathlib import Path

# Scripts find the package also in an environment that only has what it needs (conda's).
SOURCE = str(Path(workflow.basedir) / "src")
sys.path.insert(0, SOURCE)
SEARCH_PATH = "PYTHONPATH"
os.environ[SEARCH_PATH] = os.pathsep.join(filter(None, [SOURCE, os.environ.get(SEARCH_PATH)]))

from collapseflow import code, slurm
from collapseflow.config import check_once, epoch_state, load, weight_state
from collapseflow.errors import UserError

SCRIPTS = Path(workflow.basedir) / "workflow" / "scripts"


def read_study():
    """Check the study file before anything runs; end with one line for each mistake."""
    try:
        study = load(config)
        check_once(study, Path(".snakemake") / "collapseflow")
        return study
    except UserError as error:
        sys.exit(str(error))


STUDY = read_study()
RESULTS = f"results/{STUDY.study}"
EPOCHS = [epoch_state(epoch) for epoch in range(1, STUDY.finetune.epochs + 1)]
# What a job on the study's device asks for: a card, unless the study is for CPUs.
GPUS = 0 if STUDY.device == "cpu" else 1
TRAINING_GPUS = STUDY.gpus * GPUS
COMPARED = STUDY.compared_features()
FIGURE_FORMATS = ["pdf", "png"]
TABLE_FORMATS = ["csv", "md", "tex"]


def code_of(script):
    """A parameter that changes when the code behind a script changes."""
    return code.digest(SCRIPTS / f"{script}.py")


def labels_of(names):
    """Feature sets' names as tables and figures print them."""
    return {name: STUDY.feature_label(name) for name in names}


# --- before the first job and after the last ----------------------------------------------------


def before_the_first_job():
    """On a SLURM cluster: end what an interrupted run has left, check what will be asked for."""
    if workflow.executor_plugin.name != "slurm":
        return
    try:
        left = slurm.cancel_leftovers(".")
        if left:
            logger.warning(f"cancelled SLURM jobs {', '.join(left)} of an interrupted run")
        slurm.check(
            (job.rule.name, job.threads, job.resources)
            for job in workflow.dag.needrun_jobs()
            if not job.is_local
        )
    except UserError as error:
        sys.exit(str(error))


def after_the_last_job():
    """Say where the summary is, if it was asked for."""
    if any(job.rule.name == "summarize" for job in workflow.dag.jobs):
        logger.info(f"The study is finished: {RESULTS}/summary.md")


# --- inputs -----------------------------------------------------------------------------------


def weights_file(dataset, backbone, state):
    """The file of a backbone's weights, wherever they come from."""
    entry = STUDY.backbones[backbone]
    if state == "imagenet":
        return f"resources/weights/{entry.model}-imagenet.safetensors"
    if state == "file":
        return STUDY.weights_file(backbone)
    if state in ("pretrain", "random"):
        return f"{RESULTS}/weights/{backbone}-{state}.safetensors"
    return f"{RESULTS}/finetune/{dataset}/{backbone}/{state}.safetensors"


def first_state(backbone):
    """The weights that a backbone's fine-tuning starts from."""
    return weight_state(STUDY.backbones[backbone].weights[0])


def extraction_weights(wildcards):
    """The weights of a network's feature set."""
    return weights_file(wildcards.dataset, wildcards.backbone, wildcards.state)


def starting_weights(wildcards):
    """The weights that a backbone's fine-tuning starts from."""
    return weights_file(wildcards.dataset, wildcards.backbone, first_state(wildcards.backbone))


def feature_store(dataset, features, split):
    """The store of one data set, feature set and split."""
    return f"{RESULTS}/features/{dataset}/{features}/{split}.h5"


def state_stores(dataset, backbone, state):
    """The training and the test store of a backbone's features with certain weights."""
    return [feature_store(dataset, f"{backbone}-{state}", split) for split in ("train", "test")]


def stores_before(wildcards):
    """The features before fine-tuning: epoch 0 of the curves."""
    return state_stores(wildcards.dataset, wildcards.backbone, first_state(wildcards.backbone))


def stores_after(wildcards):
    """The features after the last epoch."""
    return state_stores(wildcards.dataset, wildcards.backbone, EPOCHS[-1])


def embedding_file(dataset, features, split, method):
    """The coordinates of one t-SNE."""
    return f"{RESULTS}/embeddings/{dataset}/{features}/{split}-{method}.npz"


def compared_embeddings(wildcards):
    """The panels of one data set's t-SNE figure."""
    return [embedding_file(wildcards.dataset, f, "train", "opentsne") for f in COMPARED]


def variance_files(pattern):
    """One file for each feature set and split of report B's comparison."""
    return [
        pattern(STUDY.variance.dataset, f, split)
        for f in STUDY.variance_features()
        for split in ("train", "test")
    ]


def variance_embeddings(wildcards):
    """Report B's t-SNE of training and test features."""
    return variance_files(lambda d, f, s: embedding_file(d, f, s, "sklearn"))


def variance_stores(wildcards):
    """The stores behind report B's comparison."""
    return variance_files(feature_store)


def accuracy_cells(wildcards):
    """The columns of one data set's accuracy table."""
    return [f"{RESULTS}/classification/{wildcards.dataset}/{f}.json" for f in COMPARED]


def epoch_statistics(wildcards):
    """The statistics of every fine-tuning."""
    return [
        f"{RESULTS}/collapse/{dataset}/{backbone}.json"
        for dataset in STUDY.datasets
        for backbone in STUDY.finetuned_backbones()
    ]


def measured_jobs(wildcards):
    """The benchmark files behind the table of run times, by the folders of their rules."""
    folder = f"{RESULTS}/benchmarks"
    pairs = [(d, f) for d in STUDY.datasets for f in COMPARED]
    pairs += [(STUDY.variance.dataset, f) for f in STUDY.variance_features()]
    files = []
    for dataset, features in dict.fromkeys(pairs):
        files.append(f"{folder}/extract/{dataset}/{features}.tsv")
    for dataset in STUDY.datasets:
        for backbone in STUDY.finetuned_backbones():
            files.append(f"{folder}/finetune/{dataset}/{backbone}.tsv")
            files.append(f"{folder}/measure_collapse/{dataset}/{backbone}.tsv")
        for features in COMPARED:
            files.append(f"{folder}/classify/{dataset}/{features}.tsv")
            files.append(f"{folder}/embed/{dataset}/{features}-train-opentsne.tsv")
    for features in STUDY.variance_features():
        for split in ("train", "test"):
            name = f"{features}-{split}-sklearn"
            files.append(f"{folder}/embed/{STUDY.variance.dataset}/{name}.tsv")
    return files


# --- targets ----------------------------------------------------------------------------------


def figure(name):
    """The files of one figure."""
    return [f"{RESULTS}/figures/{name}.{suffix}" for suffix in FIGURE_FORMATS]


def table(name):
    """The files of one table."""
    return [f"{RESULTS}/tables/{name}.{suffix}" for suffix in TABLE_FORMATS]


def of_dataset(position, make, name):
    """A figure or table of the data set at a position of the study file; nothing without one."""
    datasets = list(STUDY.datasets)
    return make(f"{name}_{datasets[position]}") if position < len(datasets) else []


def of_each_dataset(make, name):
    """A figure or table of every data set."""
    return [path for d in STUDY.datasets for path in make(f"{name}_{d}")]


def of_finetuning(paths):
    """Files that only a study with fine-tuning has."""
    return paths if STUDY.finetuned_backbones() else []


def of_variance(paths):
    """Files that only a study with report B's comparison has."""
    return paths if STUDY.variance else []


def everything():
    """Every table and figure of the study."""
    return [
        *of_each_dataset(figure, "samples"),
        *of_each_dataset(figure, "scattering"),
        *of_each_dataset(figure, "embedding"),
        *of_each_dataset(table, "accuracy"),
        *of_finetuning(figure("accuracy_per_epoch")),
        *of_finetuning(figure("collapse")),
        *of_finetuning([f"{RESULTS}/tables/collapse.csv"]),
        *of_variance(figure("embedding_train_test")),
        *of_variance(figure("variance")),
        *of_variance(table("variance")),
        *table("runtime"),
    ]


# --- resources --------------------------------------------------------------------------------


def growing(amount):
    """A resource that grows with every attempt: a job that was killed at a limit gets more."""
    return lambda wildcards, attempt: amount * attempt


def network_memory(images, megabytes_per_image):
    """Main memory of a job that runs a network on batches of images.

    On a card the batch is in the card's memory. On a CPU it is in main memory: so much at 224 px,
    less for smaller images.
    """
    if GPUS:
        return growing(16000)

    def mem_mb(wildcards, attempt):
        size = STUDY.backbones[wildcards.backbone].image_size
        batch = images(wildcards.backbone) * megabytes_per_image * (size / 224) ** 2
        return int(4000 + batch) * attempt

    return mem_mb


# --- parameters -------------------------------------------------------------------------------


def training_recipe(backbone, batch_size, learning_rate):
    """How a backbone is trained."""
    entry = STUDY.backbones[backbone]
    return {
        "model": entry.model,
        "image_size": entry.image_size,
        "normalize": entry.normalize,
        "precision": STUDY.precision,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "seed": STUDY.seed,
    }


def progress_folder(pattern):
    """Where a job keeps what it has finished, outside its outputs."""
    return lambda wildcards: f"{RESULTS}/progress/{pattern.format(**wildcards)}"


def feature_reading(backbone):
    """How features are read from a backbone."""
    keys = {"model", "layer", "pool", "image_size", "normalize", "batch_size"}
    return STUDY.backbones[backbone].model_dump(include=keys) | {"precision": STUDY.precision}


def embedding_options(method):
    """Parameters of a t-SNE: the study's, or report B's on all images."""
    if method == "opentsne":
        return STUDY.embedding.model_dump()
    return {"n_samples": None, "perplexity": 30.0}


def curve_labels():
    """What the figures over epochs call data sets and backbones."""
    return {
        "datasets": {d: STUDY.dataset_label(d) for d in STUDY.datasets},
        "backbones": {b: STUDY.backbone_label(b) for b in STUDY.finetuned_backbones()},
        "published": {
            f"{d}/{b}": published_names(d, [f"{b}-finetuned"]).get(f"{b}-finetuned")
            for d in STUDY.datasets
            for b in STUDY.finetuned_backbones()
        },
    }


def published_names(dataset, features):
    """The names under which the reports published numbers for these feature sets, if they did.

    Their networks had ImageNet weights; nothing is compared with other weights.
    """
    source = STUDY.datasets[dataset].source
    names = {}
    for name in features:
        if name in ("raw", "scattering"):
            names[name] = (source, name)
            continue
        backbone, state = name.split("-", 1)
        entry = STUDY.backbones[backbone]
        if state == "imagenet":
            names[name] = (source, f"{entry.model}_pretrained")
        elif state.startswith(("epoch", "finetuned")) and first_state(backbone) == "imagenet":
            names[name] = (source, f"{entry.model}_finetuned")
    return names


def variance_dataset(wildcards):
    """The data set of report B's comparison."""
    return f"{RESULTS}/data/{STUDY.variance.dataset}.h5"


def variance_titles():
    """Titles of the panels of report B's t-SNE."""
    words = {"train": "training images", "test": "test images"}
    return [
        f"{STUDY.feature_label(f)}, {words[split]}"
        for f in STUDY.variance_features()
        for split in words
    ]


def variance_heading():
    """The data set of report B's comparison as figures print it."""
    return STUDY.dataset_label(STUDY.variance.dataset) if STUDY.variance else ""


def variance_published():
    """What report B published for the feature sets of the comparison."""
    if not STUDY.variance:
        return {}
    return published_names(STUDY.variance.dataset, STUDY.variance_features())


def summary_sections():
    """Headings of the summary and the figures and tables below them."""
    sections = []
    for dataset in STUDY.datasets:
        label = STUDY.dataset_label(dataset)
        sections += [
            (f"{label}: images", [f"figures/samples_{dataset}.png"]),
            (f"{label}: scattering coefficients", [f"figures/scattering_{dataset}.png"]),
            (f"{label}: t-SNE of the features", [f"figures/embedding_{dataset}.png"]),
            (f"{label}: test accuracy", [f"tables/accuracy_{dataset}.md"]),
        ]
    if STUDY.finetuned_backbones():
        sections += [
            ("Fine-tuning: accuracy per epoch", ["figures/accuracy_per_epoch.png"]),
            ("Fine-tuning: neural collapse per epoch", ["figures/collapse.png"]),
        ]
    if STUDY.variance:
        sections += [
            ("t-SNE of training and test features", ["figures/embedding_train_test.png"]),
            ("Variance within and between classes", ["figures/variance.png", "tables/variance.md"]),
        ]
    return [*sections, ("Run time and memory", ["tables/runtime.md"])]
