"""The checked study and what is Snakemake's to ask: resources, inputs by wildcards, targets."""

import os
import sys
from collections import UserString
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(workflow.current_basedir.get_path_or_uri(secret_free=True)).resolve().parents[1]
# As a module of another workflow, whose command line and configuration are its own.
IMPORTED = Path(workflow.basedir).resolve() != ROOT
# The package beside this Snakefile, here and in all that is started from here: another checkout's
# may be installed, and conda's environments have none.
SOURCE = str(ROOT / "src")
sys.path.insert(0, SOURCE)
# Of another checkout only a profile can have imported something by now.
imported = sys.modules.get("collapseflow")
if imported and not Path(imported.__file__).is_relative_to(SOURCE):
    for name in [name for name in sys.modules if name.partition(".")[0] == "collapseflow"]:
        del sys.modules[name]
SEARCH_PATH = "PYTHONPATH"
os.environ[SEARCH_PATH] = os.pathsep.join(filter(None, [SOURCE, os.environ.get(SEARCH_PATH)]))

from collapseflow.images.datasets import read_info
from collapseflow.images.sources import folder
from collapseflow.images.sources.known import PACKAGES, divided
from collapseflow.running import code, slurm
from collapseflow.running.cards import count_cards
from collapseflow.running.errors import UserError
from collapseflow.running.jobs import was_mistake
from collapseflow.study import announcements, demands, identity, file as study_file, targets
from collapseflow.study.check import check_once
from collapseflow.study.paths import FeatureSet, State, one_of
from collapseflow.study.plan import Plan
from collapseflow.study.ingredients import READS, SHOWS
from collapseflow.study.products import (
    PRODUCTS,
    SHOWN,
    everything,
    sections,
    small_results,
    target_files,
    target_names,
)
from collapseflow.study.schema import load
from snakemake.jobs import Job
from snakemake_interface_logger_plugins.common import LogEvent

SCRIPTS = ROOT / "workflow" / "scripts"


def read_study():
    """Check the study file before anything runs; end with one line for each mistake."""
    try:
        for path in [] if IMPORTED else workflow.configfiles:
            study_file.read(path)
        arguments = [] if IMPORTED else workflow.config_settings.config_args
        study = load(study_file.with_arguments(config, arguments))
        # A submitted job runs what this process has checked.
        if workflow.is_main_process:
            identity.refuse_another(study.model_dump(), f"results/{study.study}")
            check_once(study, Path(".snakemake") / "collapseflow")
        return study
    except UserError as error:
        sys.exit(str(error))


STUDY = read_study()
PLAN = Plan(STUDY)
FILES = PLAN.files
RESULTS = FILES.results
# What a job on the study's device asks for: a card, unless the study is for CPUs.
GPUS = 0 if STUDY.device == "cpu" else 1
TRAINING_GPUS = STUDY.gpus * GPUS


def lazily(make, *arguments):
    """An input or a parameter of the study as a whole, made when a job needs it: most processes,
    on a cluster one for each job, run another rule's."""
    return lambda wildcards: make(*arguments)


def code_of(script, draw=""):
    """A parameter that changes when the code behind a script changes, and behind a function that
    the script is told."""
    return lazily(code.digest, SCRIPTS / f"{script}.py", draw)


# --- before the first job and after the last ----------------------------------------------------


def announce(record):
    """Before the table of planned jobs, which a dry run has, too: say once what is trained again,
    and what was set aside. Part of the log: a filter that lets everything pass."""
    if getattr(record, "event", None) == LogEvent.RUN_INFO:
        logger.removeFilter(announce)
        recipes = [recipe.training() for recipe in STUDY.recipes.values()]
        lines = announcements.trained_again(planned_trainings(), recipes)
        for line in lines + announcements.set_aside(RESULTS):
            logger.warning(line)
    return True


# Nothing of it in a submitted job.
if workflow.is_main_process:
    logger.addFilter(announce)


def planned_trainings():
    """The trainings among the planned jobs, with what their epochs depend on."""
    jobs = list(workflow.dag.needrun_jobs())
    made = {path for job in jobs for path in job.output}
    digests = {}
    for job in jobs:
        if job.rule.name not in ("finetune", "pretrain"):
            continue
        inputs = {"the data set": job.input.dataset, "the first weights": job.input.get("weights")}
        again = tuple(words for words, path in inputs.items() if path in made)
        path = job.input.dataset
        if path not in made and path not in digests:
            digests[path] = read_info(path).sha256
        yield announcements.Training(
            name="/".join(job.wildcards),
            progress=job.params.progress,
            recipe=job.params.recipe,
            kept=job.params.get("kept") or [job.params.recipe["epochs"]],
            code=job.params.code,
            log=job.output.get("log"),
            data=digests.get(path),
            made_again=again,
        )


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
    """Say what was found and where the summary is, if it was made now, and what failed."""
    finished = {job.rule.name for job in workflow.dag.finished_jobs}
    if "summarize" in finished:
        for line in announcements.finished(RESULTS):
            logger.info(line)
    if "collect_measures" in finished or "summarize" in finished:
        for line in announcements.failed_runs(f"{RESULTS}/failures.csv", len(PLAN.runs)):
            logger.warning(line)


# --- inputs that follow from wildcards ----------------------------------------------------------


def state_of(wildcards):
    """The state that a job reads."""
    return State.parse(wildcards.state)


def run_of(wildcards):
    """The run that a job trains or measures."""
    return State.of_run(wildcards.run)


def extraction_weights(wildcards):
    """The weights of a state."""
    return PLAN.weights(wildcards.dataset, state_of(wildcards))


def starting_weights(wildcards):
    """The weights that a run starts from."""
    return PLAN.weights(wildcards.dataset, run_of(wildcards).at(0))


def pretrained_on(wildcards):
    """The data set of the study that weights are pretrained on; empty where it is letters."""
    return wildcards.pretrained.removeprefix("pretrain").removeprefix("-")


def pretraining_images(wildcards):
    """What weights are pretrained on: letters, or a data set of the study."""
    name = pretrained_on(wildcards)
    return FILES.dataset(name) if name else f"{RESULTS}/pretraining/letters.h5"


def epochs_of(wildcards):
    """The epochs of a run whose weights are kept and measured."""
    return STUDY.recipes[run_of(wildcards).recipe].measured_epochs()


def last_features(wildcards):
    """The features after a run's last epoch."""
    state = run_of(wildcards).at(epochs_of(wildcards)[-1])
    return FILES.features(wildcards.dataset, state.path)


def folder_of(wildcards):
    """The folder with the stores of a feature set, which one job makes."""
    folder = FeatureSet.parse(wildcards.features).folder
    return FILES.features(wildcards.dataset, folder)


def store_of(split):
    """One of the stores of a feature set."""
    return lambda wildcards: FILES.store(wildcards.dataset, wildcards.features, split)


def stores_of(wildcards):
    """The stores of a feature set by split."""
    return {
        split: FILES.store(wildcards.dataset, wildcards.features, split)
        for split in ("train", "test")
    }


def embedded_stores(wildcards):
    """The stores of what is embedded in one map, by split: both, or one."""
    stores = stores_of(wildcards)
    embedded = wildcards.embedded
    return stores if embedded == "both" else {embedded: stores[embedded]}


def statistics_of(wildcards):
    """The statistics of a feature set, of a run with those of its other epochs."""
    return PLAN.statistics_job(wildcards.dataset, FeatureSet.parse(wildcards.features))


def statistics_file(wildcards):
    """The file with the statistics of a feature set."""
    return PLAN.statistics(wildcards.dataset, FeatureSet.parse(wildcards.features))


def features_of_series(wildcards):
    """The features before and after the trainings of a series: the first seed's start, and each
    seed's last epoch."""
    runs = PLAN.series(wildcards.dataset)[wildcards.series]
    states = [runs[0].state.at(0), *(PLAN.last(run).state for run in runs)]
    return [FILES.features(wildcards.dataset, state.path) for state in states]


def of_runs(make):
    """A file of each run, or something else that follows from it."""
    return lambda wildcards: [make(run) for run in PLAN.runs]


def told_everywhere(columns):
    """The feature sets of all data sets as JSON-like values."""
    return lambda wildcards: [vars(one) for one in PLAN.describe_everywhere(columns)]


# --- tables and figures -----------------------------------------------------------------------


def asked(function):
    """A function of the plan and the wildcards as one of the wildcards."""
    return lambda wildcards: function(PLAN, wildcards)


def reported(product):
    """The outputs of a product; the report shows its picture, its table in Markdown, or both."""
    outputs = {suffix: f"<results>/{path}" for suffix, path in product.outputs.items()}
    for suffix in SHOWN.keys() & outputs.keys():
        outputs[suffix] = report(
            outputs[suffix],
            caption="../report/product.rst",
            category=product.category,
            labels=product.report_labels(suffix),
        )
    return outputs


def caption_of(product):
    """What the report says of a product. No plain text: Snakemake does not compare other values of
    parameters, so that a changed caption draws nothing anew."""

    def caption(wildcards):
        told = {name: SHOWS[name](PLAN, wildcards) for name in product.in_caption}
        return UserString(product.caption_of(told))

    return caption


def files_of_target(target):
    """The input of a target: where the study has none of it, to ask for it ends in one line."""

    def files(wildcards):
        try:
            return target_files(target, PLAN)
        except UserError as error:
            sys.exit(str(error))

    return files


# --- targets ----------------------------------------------------------------------------------


def refuse_unknown_targets():
    """End in one line what no rule of this study makes."""
    ours = Path(sys.argv[0]).name in ("snakemake", "__main__.py") and workflow.is_main_process
    if IMPORTED or not ours:
        return
    rules_by_name = {rule.name: rule for rule in workflow.rules}
    try:
        targets.refuse_unknown(
            sys.argv[1:],
            PLAN,
            [name for name, rule in rules_by_name.items() if not rule.output],
            lambda path: path in rules_by_name
            or any(rule.is_producer(path) for rule in workflow.rules),
        )
    except UserError as error:
        sys.exit(str(error))


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


@cache
def on_cards():
    """Whether jobs that ask for a card have one: a cluster's profile sends them to a partition; on
    one machine, cards are counted."""
    default_resources = workflow.resource_settings.default_resources or ()
    return bool(GPUS and ("slurm_partition" in default_resources or count_cards()))


def batch_memory(backbone, images, megabytes_per_image):
    """Main memory of a job that runs a network on batches of images, where there is no card: so
    much an image at 224 px, less for smaller images."""
    size = STUDY.backbones[backbone].image_size
    return int(4000 + images * megabytes_per_image * (size / 224) ** 2)


def images_of(wildcards):
    """What is known of the images of a data set."""
    name = wildcards.dataset
    entry = STUDY.datasets[name].model_dump()
    return demands.images_of(FILES.dataset(name), entry, STUDY.test_fraction)


def reading_memory(state):
    """Main memory of a job that reads features from a network."""

    def amount(wildcards):
        read = state(wildcards)
        if not on_cards():
            return batch_memory(read.backbone, STUDY.backbones[read.backbone].batch_size, 60)
        weights = PLAN.weights(wildcards.dataset, read.at(0))
        return demands.megabytes(images_of(wildcards), weights)

    return megabytes(amount)


def reading_minutes(state, times):
    """Run time of a job that reads features from a network so many times."""

    def amount(wildcards):
        size = STUDY.backbones[state(wildcards).backbone].image_size
        return demands.minutes_of_reading(images_of(wildcards), size, times(wildcards))

    return minutes(amount if GPUS else 240)


class Trained(NamedTuple):
    """What decides the memory and the time of a training; ``weights`` is a file that is as large
    as its own."""

    backbone: str
    recipe: object
    images: demands.Images | None
    weights: str


def finetuned(wildcards):
    """A run."""
    run = run_of(wildcards)
    weights = starting_weights(wildcards)
    return Trained(run.backbone, STUDY.recipes[run.recipe], images_of(wildcards), weights)


def pretrained(wildcards):
    """A training of weights that runs start from."""
    name = pretrained_on(wildcards)
    letters = {"source": "letters", "subset": divided(STUDY.pretrain.images, STUDY.test_fraction)}
    entry = STUDY.datasets[name].model_dump() if name else letters
    images = demands.images_of(pretraining_images(wildcards), entry, STUDY.test_fraction)
    start = State(wildcards.backbone, wildcards.pretrained, seed=int(wildcards.seed))
    return Trained(wildcards.backbone, STUDY.pretrain, images, PLAN.weights(name, start))


def training_memory(trained):
    """Main memory of a job that trains a network."""

    def amount(wildcards):
        backbone, recipe, images, weights = trained(wildcards)
        if not on_cards():
            return batch_memory(backbone, recipe.batch_size, 130)
        return demands.megabytes(images, weights, trained=True, processes=STUDY.gpus)

    return megabytes(amount)


def training_minutes(trained, without_card):
    """Run time of a job that trains a network."""

    def amount(wildcards):
        backbone, recipe, images, _ = trained(wildcards)
        size = STUDY.backbones[backbone].image_size
        return demands.minutes_of_training(images, size, recipe.epochs)

    return minutes(amount if GPUS else without_card)


def cores(gpus):
    """Cores of a job that asks for so many cards: all that a job of the study may have where there
    are none."""
    return lambda wildcards: demands.cores(STUDY.threads, gpus) if on_cards() else STUDY.threads


# --- failed jobs ------------------------------------------------------------------------------

# Snakemake asks this of a job that has failed: after a mistake that only the user can mend, the
# same would happen again. On a node a job is run once, and the question is left to this process.
if workflow.is_main_process:
    Job.restart_times = property(lambda job: 0 if was_mistake(job.log) else job.rule.restart_times)


# --- parameters -------------------------------------------------------------------------------


def progress_folder(pattern):
    """Where a job keeps what it has finished, outside its outputs."""
    return lambda wildcards: f"{RESULTS}/progress/{pattern.format(**wildcards)}"


def training_progress(wildcards):
    """Where a run's finished epochs are kept: whatever its recipe is called, a folder for each
    digest of what decides them."""
    run = run_of(wildcards)
    return f"{RESULTS}/progress/finetune/{wildcards.dataset}/{run.backbone}/{run.start}/s{run.seed}"


def starting_label(wildcards):
    """What the weights that a run starts from are, in words."""
    run = run_of(wildcards)
    return PLAN.start_label(run.backbone, run.start)


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


def embedding_options(method):
    """Parameters of a t-SNE: the study's, or report B's on all images."""
    if method == "opentsne":
        return STUDY.embedding.model_dump()
    return {"n_samples": None, "perplexity": 30.0}
