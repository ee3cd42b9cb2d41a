from snakemake.utils import min_version

min_version("9.13")


report: "workflow/report/workflow.rst"


include: "workflow/rules/study.smk"
include: "workflow/rules/common.smk"


pathvars:
    results=RESULTS,


wildcard_constraints:
    dataset=one_of(STUDY.datasets),
    backbone=one_of(STUDY.backbones),
    model=one_of(entry.model for entry in STUDY.backbones.values()),
    named=one_of(STUDY.distributed_weights()),
    wheel=one_of(package.wheel for package in PACKAGES.values()),
    pretrained=one_of(["pretrain", *(f"pretrain-{dataset}" for dataset in STUDY.datasets)]),
    run=PLAN.patterns.run,
    elsewhere=PLAN.patterns.elsewhere,
    replicates=PLAN.patterns.replicates,
    state=PLAN.patterns.state,
    untrained=PLAN.patterns.untrained,
    features=PLAN.patterns.features,
    vectors=PLAN.patterns.vectors,
    seed=one_of(map(str, STUDY.training_seeds())),
    embedded="both|train|test",
    method="opentsne|sklearn",


onstart:
    before_the_first_job()


onsuccess:
    after_the_last_job()


# The first rule, and so the default target.
rule all:
    input:
        lazily(everything, PLAN),
        f"{RESULTS}/summary.md",
        f"{RESULTS}/report.html",
    message:
        f"Every table and figure of the study {STUDY.study} is there"


include: "workflow/rules/data.smk"
include: "workflow/rules/weights.smk"
include: "workflow/rules/finetuning.smk"
include: "workflow/rules/features.smk"
include: "workflow/rules/collapse.smk"
include: "workflow/rules/classification.smk"
include: "workflow/rules/embedding.smk"
include: "workflow/rules/analyses.smk"
include: "workflow/rules/products.smk"
include: "workflow/rules/summary.smk"
include: "workflow/rules/page.smk"


refuse_unknown_targets()
