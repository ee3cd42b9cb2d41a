"""The checked study and what is Snakemake's to ask: inputs, parameters, resources, targets."""

import inspect
import os
import sys
from collections import UserString
from functools import wraps
from pathlib import Path

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

from collapseflow.features.families.module import look_in
from collapseflow.features.inputs import own_statistics
from collapseflow.features.known import PACKAGES
from collapseflow.images.datasets import read_info
from collapseflow.running import code, engine, slurm
from collapseflow.running.cards import count_cards
from collapseflow.running.errors import UserError
from collapseflow.study import announcements, forecast, identity, targets
from collapseflow.study import file as study_file
from collapseflow.study.check import check_once
from collapseflow.study.demands import Demands
from collapseflow.study.ingredients import READS, SHOWS
from collapseflow.study.patterns import one_of
from collapseflow.study.plan import Plan
from collapseflow.study.products import (
    PRODUCTS,
    SHOWN,
    contents,
    everything,
    small_results,
    target_files,
    target_names,
)
from collapseflow.study.schema import load

SCRIPTS = ROOT / "workflow" / "scripts"


def read_study():
    """Check the study file before anything runs; end with one line for each mistake."""
    try:
        for path in [] if IMPORTED else engine.configuration_files(workflow):
            study_file.read(path)
        arguments = [] if IMPORTED else engine.configuration_words(workflow)
        study = load(study_file.with_arguments(config, arguments))
        # A submitted job runs what this process has checked.
        if workflow.is_main_process:
            identity.refuse_another(study.model_dump(), f"results/{study.study}")
            check_once(study, Path(".snakemake") / "collapseflow")
        return study
    except UserError as error:
        sys.exit(str(error))


if workflow.is_main_process:
    engine.tell_of_full_disks()
# A user's own networks lie beside the study file; jobs inherit where that is.
look_in([Path(path).parent for path in workflow.configfiles])
STUDY = read_study()
PLAN = Plan(STUDY)
FILES, JOBS = PLAN.files, PLAN.jobs
RESULTS = FILES.results


def lazily(make, *arguments):
    """An input or a parameter of the study as a whole, made when a job needs it: most processes,
    on a cluster one for each job, run another rule's."""
    return lambda wildcards: make(*arguments)


def by_name(method):
    """A method as a function of wildcards, with those that its arguments are called after."""
    names = inspect.signature(method).parameters
    return lambda wildcards: method(**{name: getattr(wildcards, name) for name in names})


def in_one_line(function):
    """A function that ends in one line where the user has made a mistake."""

    @wraps(function)
    def call(*arguments, **names):
        try:
            return function(*arguments, **names)
        except UserError as error:
            sys.exit(str(error))

    return call


def for_each_run(make):
    """A file of each run, or something else that follows from it."""
    return lambda wildcards: [make(run) for run in PLAN.runs]


def told_everywhere(columns):
    """The feature sets of all data sets as JSON-like values."""
    return lambda wildcards: [vars(one) for one in PLAN.described.everywhere(columns)]


def code_of(script, *functions):
    """A parameter that changes when the code behind a script changes, and behind functions that the
    script is told."""
    return lazily(code.digest, SCRIPTS / f"{script}.py", *functions)


# --- before the first job and after the last ----------------------------------------------------


@in_one_line
def announce():
    """Say once what is trained again, and what was set aside; where the plan was asked for, all
    of it."""
    recipes = [recipe.training() for recipe in STUDY.recipes.values()]
    trainings = list(planned_trainings())
    lines = announcements.trained_again(trainings, recipes) + announcements.set_aside(RESULTS)
    if engine.take_plan:
        jobs = [engine.describe(workflow, job) for job in engine.planned_jobs(workflow)]
        past = forecast.Past(Path(RESULTS).parent)
        engine.take_plan(forecast.forecast(STUDY.study, jobs, trainings, lines, past))
        return
    for line in lines:
        logger.warning(line)


# Nothing of it in a submitted job.
if workflow.is_main_process:
    engine.before_the_planned_jobs(announce)
    if not IMPORTED:
        engine.own_the_locks(STUDY.study)


def planned_trainings():
    """The trainings among the planned jobs, with what their epochs depend on."""
    jobs = engine.planned_jobs(workflow)
    made = {path for job in jobs for path in job.output}
    infos = {}
    for job in jobs:
        if job.rule.name not in ("finetune", "pretrain"):
            continue
        inputs = {"the data set": job.input.dataset, "the first weights": job.input.get("weights")}
        again = tuple(words for words, path in inputs.items() if path in made)
        path = job.input.dataset
        if path not in made and path not in infos:
            infos[path] = read_info(path)
        info, recipe = infos.get(path), job.params.recipe
        own = own_statistics(recipe["normalize"], path, info) if info else {}
        yield announcements.Training(
            name="/".join(job.wildcards),
            progress=job.params.progress,
            recipe={**recipe, **own},
            kept=job.params.get("kept") or [job.params.recipe["epochs"]],
            code=job.params.code,
            log=job.output.get("log"),
            data=info and info.sha256,
            made_again=again,
        )


def before_the_first_job():
    """Keep what the study's results share. On a SLURM cluster: end what an interrupted run has
    left, check what will be asked for."""
    try:
        identity.record(STUDY.model_dump(), RESULTS)
        if not engine.submits_to_slurm(workflow):
            return
        submitted = [job for job in engine.planned_jobs(workflow) if not job.is_local]
        if submitted:
            slurm.announce_run(".", engine.name_of_submitted(workflow, submitted[0]))
        slurm.cancel_leftovers(".", logger.warning)
        OFFERS.update(slurm.check((job.rule.name, job.threads, job.resources) for job in submitted))
    except UserError as error:
        sys.exit(str(error))


@in_one_line
def after_the_last_job():
    """Say what was found and where the summary is, if it was made now, and what failed."""
    finished = engine.finished_rules(workflow)
    if "summarize" in finished:
        for line in announcements.finished(RESULTS):
            logger.info(line)
    if "collect_measures" in finished or "summarize" in finished:
        for line in announcements.failed_runs(f"{RESULTS}/failures.csv", len(PLAN.runs)):
            logger.warning(line)


# --- tables and figures -----------------------------------------------------------------------


def asked(function):
    """A function of the plan and the wildcards as one of the wildcards."""
    return lambda wildcards: function(PLAN, wildcards)


def reported(product):
    """The outputs of a product; the report shows its picture, its table in Markdown, or both."""
    outputs = {suffix: f"<results>/{path}" for suffix, path in product.outputs(PLAN).items()}
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


def command_line():
    """What makes the study, for its page. No plain text, as a caption: how it is called may differ
    from one time to the next."""
    named = [f"--configfile {os.path.relpath(path)}" for path in workflow.overwrite_configfiles]
    return UserString(" ".join(["snakemake --cores all", *named]))


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
            lambda path: path in rules_by_name or engine.is_made(workflow, path),
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


def on_cards():
    """Whether jobs that ask for a card have one: a cluster's profile sends them to a partition; on
    one machine, cards are counted."""
    return engine.has_default_resource(workflow, "slurm_partition") or bool(count_cards())


DEMANDS = Demands(PLAN, on_cards)
GPUS, TRAINING_GPUS = DEMANDS.cards, DEMANDS.training_cards


# --- failed jobs ------------------------------------------------------------------------------

if workflow.is_main_process:
    engine.retry_no_mistakes()


# --- parameters -------------------------------------------------------------------------------


def progress_folder(pattern):
    """Where a job keeps what it has finished, outside its outputs."""
    return lambda wildcards: f"{RESULTS}/progress/{pattern.format(**wildcards)}"
