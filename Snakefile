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
    wheel=one_of(package.wheel for package in PACKAGES.values()),
    pretrained=one_of(["pretrain", *(f"pretrain-{dataset}" for dataset in STUDY.datasets)]),
    run=PLAN.run_pattern(),
    series=PLAN.series_pattern(),
    state=PLAN.state_pattern(),
    untouched=PLAN.untouched_pattern(),
    features=PLAN.features_pattern(),
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
        lazily(PLAN.everything),
        f"{RESULTS}/summary.md",
    message:
        f"Every table and figure of the study {STUDY.study} is there"


include: "workflow/rules/data.smk"
include: "workflow/rules/weights.smk"
include: "workflow/rules/finetuning.smk"
include: "workflow/rules/features.smk"
include: "workflow/rules/collapse.smk"
include: "workflow/rules/classification.smk"
include: "workflow/rules/embedding.smk"
include: "workflow/rules/variance.smk"
include: "workflow/rules/analyses.smk"
include: "workflow/rules/summary.smk"


# The numbers of the reports: the first and the second data set of the study file.
rule fig1:
    input:
        lazily(of_each_dataset, FILES.figure, "scattering"),


rule fig2:
    input:
        required("fig2", of_dataset, 0, FILES.figure, "embedding"),


rule fig3:
    input:
        required("fig3", of_dataset, 1, FILES.figure, "embedding"),


rule fig4:
    input:
        required("fig4", FILES.figure, "accuracy_per_epoch"),


rule fig5:
    input:
        required("fig5", of_each_dataset, FILES.figure, "collapse"),


rule table1:
    input:
        required("table1", of_dataset, 0, FILES.table, "accuracy"),


rule table2:
    input:
        required("table2", of_dataset, 1, FILES.table, "accuracy"),


rule fig_embedding_b:
    input:
        required("fig_embedding_b", FILES.figure, "embedding_train_test"),


rule fig_variance:
    input:
        required("fig_variance", FILES.figure, "variance"),


rule table_variance:
    input:
        required("table_variance", FILES.table, "variance"),


rule fig_samples:
    input:
        lazily(of_each_dataset, FILES.figure, "samples"),


rule fig_training:
    input:
        required("fig_training", FILES.figure, "training"),


rule fig_probes:
    input:
        required("fig_probes", FILES.figure, "probes"),


rule fig_geometry:
    input:
        required("fig_geometry", of_each_run, FILES.figure, "geometry"),


rule fig_confusion:
    input:
        required("fig_confusion", of_each_dataset, FILES.figure, "confusion"),


rule fig_few_shot:
    input:
        required("fig_few_shot", of_each_dataset, FILES.figure, "few_shot"),


rule fig_similarity:
    input:
        required("fig_similarity", of_each_dataset, FILES.figure, "similarity"),


rule fig_transfer:
    input:
        required("fig_transfer", transfer_figures),


rule table_comparison:
    input:
        required("table_comparison", of_each_dataset, FILES.table, "comparison"),


rule table_flaws:
    input:
        required("table_flaws", FILES.table, "flaws"),


rule fig_layers:
    input:
        required("fig_layers", FILES.figure, "layers"),


rule fig_sweep:
    input:
        required("fig_sweep", FILES.figure, "sweep"),


rule table_sweep:
    input:
        required("table_sweep", FILES.table, "sweep"),


rule table_collapse:
    input:
        required("table_collapse", FILES.table, "collapse"),


rule table_runtime:
    input:
        FILES.table("runtime"),


refuse_unknown_targets()
