"""The checked study and the functions that rules call; no rules here."""

import os
import re
import sys
from pathlib import Path

ROOT = Path(workflow.current_basedir.get_path_or_uri(secret_free=True)).resolve().parents[1]
# As a module of another workflow, whose command line and configuration are its own.
IMPORTED = Path(workflow.basedir).resolve() != ROOT
# Scripts find the package also in an environment that only has what it needs (conda's).
SOURCE = str(ROOT / "src")
sys.path.insert(0, SOURCE)
SEARCH_PATH = "PYTHONPATH"
os.environ[SEARCH_PATH] = os.pathsep.join(filter(None, [SOURCE, os.environ.get(SEARCH_PATH)]))

from collapseflow.running import code, slurm
from collapseflow.study import identity, file as study_file
from collapseflow import published
from collapseflow.study.schema import WEIGHT_SOURCES, check_once, epoch_state, load, weight_state
from collapseflow.running.errors import UserError, did_you_mean
from collapseflow.running.jobs import was_mistake
from collapseflow.images.sources import folder
from collapseflow.images.sources.known import PACKAGES
from snakemake.jobs import Job

NO_SECOND = "this study has one data set only, and this target is of the second"
NO_FINETUNING = (
    "this study compares no fine-tuned network; it takes a backbone with `finetune: true` "
    "and, where the key `features` is given, its features there"
)
NO_VARIANCE = "this study has no comparison of variances; it takes the key `variance`"

SCRIPTS = ROOT / "workflow" / "scripts"


def read_study():
    """Check the study file before anything runs; end with one line for each mistake."""
    try:
        for path in [] if IMPORTED else workflow.configfiles:
            study_file.read(path)
        arguments = [] if IMPORTED else workflow.config_settings.config_args
        study = load(study_file.with_arguments(config, arguments))
        identity.refuse_another(study.model_dump(), f"results/{study.study}")
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
    """Keep what the study's results share. On a SLURM cluster: end what an interrupted run has
    left, check what will be asked for."""
    identity.record(STUDY.model_dump(), RESULTS)
    if workflow.executor_plugin.name != "slurm":
        return
    submitted = [job for job in workflow.dag.needrun_jobs() if not job.is_local]
    try:
        if submitted:
            executor = workflow.scheduler.get_executor(submitted[0])
            slurm.announce_run(".", executor.run_uuid)
        slurm.cancel_leftovers(".", logger.warning)
        OFFERS.update(slurm.check((job.rule.name, job.threads, job.resources) for job in submitted))
    except UserError as error:
        sys.exit(str(error))


def after_the_last_job():
    """Say where the summary is, if this run has made it."""
    if any(job.rule.name == "summarize" for job in workflow.dag.finished_jobs):
        logger.info(f"The study is finished: {RESULTS}/summary.md")


# --- inputs -----------------------------------------------------------------------------------


def weights_file(dataset, backbone, state):
    """The file of a backbone's weights, wherever they come from."""
    entry = STUDY.backbones[backbone]
    if state == "imagenet":
        return f"resources/weights/{entry.model}-imagenet.safetensors"
    if state == "file":
        return STUDY.weights_file(backbone)
    if state in ("package", "pretrain", "random"):
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


def compared_pairs():
    """Every data set and feature set that a table or a figure shows."""
    pairs = [(d, f) for d in STUDY.datasets for f in COMPARED]
    pairs += [(STUDY.variance.dataset, f) for f in STUDY.variance_features()]
    return list(dict.fromkeys(pairs))


def computing_jobs():
    """The rows of the table of run times: stage, data set and name, empty where there is none."""
    pairs, finetuned = compared_pairs(), STUDY.finetuned_backbones()
    states = [f.split("-", 1) for _, f in pairs if "-" in f]
    states += [[b, first_state(b)] for b in finetuned]
    made = {
        source: list(dict.fromkeys(b for b, state in states if state == source))
        for source in ("package", "pretrain", "random")
    }
    jobs = [("prepare_dataset", d, "") for d in STUDY.datasets]
    jobs += [("render_letters", "", "")] if made["pretrain"] else []
    jobs += [("pretrain", "", b) for b in made["pretrain"]]
    jobs += [("unpack_weights", "", b) for b in made["package"]]
    jobs += [("initialize_weights", "", b) for b in made["random"]]
    jobs += [("extract", d, f) for d, f in pairs]
    for dataset in STUDY.datasets:
        for backbone in finetuned:
            jobs.append(("finetune", dataset, backbone))
            jobs.append(("measure_collapse", dataset, backbone))
        for features in COMPARED:
            jobs.append(("classify", dataset, features))
            jobs.append(("embed", dataset, f"{features}-train-opentsne"))
    for features in STUDY.variance_features():
        for split in ("train", "test"):
            jobs.append(("embed", STUDY.variance.dataset, f"{features}-{split}-sklearn"))
    return [*jobs, *([("tabulate_variance", "", "")] if STUDY.variance else [])]


def files_of_jobs(folder, suffix):
    """One file of each job that computes: its log, or Snakemake's benchmark of it."""
    paths = ["/".join(filter(None, job)) for job in computing_jobs()]
    return [f"{RESULTS}/{folder}/{path}.{suffix}" for path in paths]


def results_behind_the_summary(wildcards):
    """The small files behind tables and figures, which say what they were made with."""
    cells = [f"{RESULTS}/classification/{d}/{f}.json" for d in STUDY.datasets for f in COMPARED]
    embeddings = [
        embedding_file(d, f, "train", "opentsne") for d in STUDY.datasets for f in COMPARED
    ]
    return [*cells, *embeddings, *variance_embeddings(wildcards), *epoch_statistics(wildcards)]


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


def required(paths, reason):
    """The input of a target: without any file, to ask for the target ends in one line."""

    def refuse(wildcards):
        sys.exit(reason)

    return paths or refuse


def any_of(names):
    """A pattern that matches some names and nothing else."""
    return "|".join(names) or "(?!)"


def any_feature_set():
    """A pattern that matches the feature sets that can be had, under the names of their folders."""
    with_file = [key for key in STUDY.backbones if STUDY.has_weights_file(key)]
    states = any_of([*WEIGHT_SOURCES, *EPOCHS])
    networks = f"(?:{any_of(STUDY.backbones)})-(?:{states})|(?:{any_of(with_file)})-file"
    return f"raw|scattering|{networks}"


def is_target(word):
    """Whether a word of the command line is a rule, a file that is there, or one of the study."""
    path = os.path.normpath(word)
    store = re.match(f"{re.escape(RESULTS)}/features/[^/]+/([^/]+)/", path)
    if store and not re.fullmatch(any_feature_set(), store[1]):
        return False
    is_there = workflow.is_rule(word) or os.path.exists(path)
    return is_there or any(rule.is_producer(path) for rule in workflow.rules)


def unknown_targets():
    """What the command line of this process asks for and this study does not have."""
    ours = Path(sys.argv[0]).name in ("snakemake", "__main__.py") and workflow.is_main_process
    words = [w for w in sys.argv[1:] if not w.startswith("-") and "=" not in w and not w.isdigit()]
    if IMPORTED or not ours or all(map(is_target, words)):
        return []
    # Takes a third of a second.
    from snakemake.cli import get_argument_parser

    targets = get_argument_parser().parse_known_args(sys.argv[1:])[0].targets
    return [target for target in targets if not is_target(target)]


def refuse_unknown_targets():
    """End in one line what no rule of this study makes."""
    for target in unknown_targets():
        parts = Path(target).parts
        if parts[0] == "results" and parts[1:2] != (STUDY.study,):
            sys.exit(
                f"{target}: is not of the study {STUDY.study}, whose files are below {RESULTS}/; "
                "another study's file goes behind --configfile"
            )
        names = [rule.name for rule in workflow.rules if not rule.output]
        files = [*everything(), f"{RESULTS}/summary.md"]
        for dataset in STUDY.datasets:
            files.append(f"{RESULTS}/data/{dataset}.h5")
            for features in COMPARED:
                files += [feature_store(dataset, features, s) for s in ("train", "test")]
                files.append(embedding_file(dataset, features, "train", "opentsne"))
                files.append(f"{RESULTS}/classification/{dataset}/{features}.json")
        sys.exit(
            f"{target}: is not made by the study {STUDY.study}; "
            f"{did_you_mean(target, [*names, *files])}"
            f"allowed: {', '.join(names)}, and files below {RESULTS}/"
        )


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


#: What the partition of each submitted rule has; empty where no cluster has been asked.
OFFERS = {}


def growing(key, amount):
    """A resource that grows with every attempt, up to what a cluster has: a job that was killed at
    a limit gets more."""

    def ask(wildcards, attempt, rulename):
        wanted = amount(wildcards) if callable(amount) else amount
        return slurm.at_most(OFFERS.get(rulename), key, wanted * attempt)

    return ask


def megabytes(amount):
    """Main memory, growing with every attempt; the amount may be a function of the wildcards."""
    return growing("mem_mb", amount)


def minutes(amount):
    """Run time, growing with every attempt."""
    return growing("minutes", amount)


def network_memory(images, megabytes_per_image):
    """Main memory of a job that runs a network on batches of images.

    On a card the batch is in the card's memory. On a CPU it is in main memory: so much at 224 px,
    less for smaller images.
    """
    if GPUS:
        return megabytes(16000)

    def amount(wildcards):
        size = STUDY.backbones[wildcards.backbone].image_size
        batch = images(wildcards.backbone) * megabytes_per_image * (size / 224) ** 2
        return int(4000 + batch)

    return megabytes(amount)


# --- failed jobs ------------------------------------------------------------------------------

# Snakemake asks this of a job that has failed: after a mistake that only the user can mend, the
# same would happen again. On a node a job is run once, and the question is left to this process.
if workflow.is_main_process:
    Job.restart_times = property(lambda job: 0 if was_mistake(job.log) else job.rule.restart_times)


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


def decoding_threads(wildcards):
    """Cores of a data set's preparation: only a folder's images are decoded in parallel."""
    return STUDY.threads if STUDY.datasets[wildcards.dataset].source == "folder" else 1


def images_of_a_folder(wildcards):
    """A parameter that changes when an image is added to a user's folder, changed or removed."""
    entry = STUDY.datasets[wildcards.dataset]
    try:
        return folder.content(entry.location[0]) if entry.source == "folder" else None
    except UserError as error:
        sys.exit(str(error))


def feature_reading(backbone):
    """How features are read from a backbone."""
    keys = {"model", "layer", "pool", "image_size", "normalize", "batch_size"}
    entry = STUDY.backbones[backbone].model_dump(include=keys)
    return entry | {"precision": STUDY.reading_precision()}


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
        "all_backbones": list(STUDY.backbones),
        "published": {
            f"{d}/{b}": published_curves(d, b)
            for d in STUDY.datasets
            for b in STUDY.finetuned_backbones()
        },
    }


def published_names(experiments, dataset, features):
    """The names under which a report published numbers of these very feature sets, if it did."""
    names = {f: published.find(experiments, STUDY.condition(dataset, f)) for f in features}
    return {features: name for features, name in names.items() if name}


def published_curves(dataset, backbone):
    """The name of the published curves of this very fine-tuning, if there are any."""
    return published.find_curves(STUDY.condition(dataset, f"{backbone}-{EPOCHS[-1]}"))


def published_classifiers():
    """The names under which report A has the study's classifiers, if it has them."""
    names = {k: published.find_classifier(c.model_dump()) for k, c in STUDY.classifiers.items()}
    return {classifier: name for classifier, name in names.items() if name}


def published_minutes():
    """What report B needed for the jobs of this study that did the very same."""
    minutes = published.runtimes()
    return {
        f"extract/{dataset}/{features}": minutes[*name, "extract"]
        for dataset, features in compared_pairs()
        for name in published_names(published.REPORT_B, dataset, [features]).values()
    }


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
    return published_names(published.REPORT_B, STUDY.variance.dataset, STUDY.variance_features())


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
