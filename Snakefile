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
        PLAN.everything(),
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
        of_each_dataset(FILES.figure, "scattering"),


rule fig2:
    input:
        required(of_dataset(0, FILES.figure, "embedding"), "fig2"),


rule fig3:
    input:
        required(of_dataset(1, FILES.figure, "embedding"), "fig3"),


rule fig4:
    input:
        required(FILES.figure("accuracy_per_epoch"), "fig4"),


rule fig5:
    input:
        required(of_each_dataset(FILES.figure, "collapse"), "fig5"),


rule table1:
    input:
        required(of_dataset(0, FILES.table, "accuracy"), "table1"),


rule table2:
    input:
        required(of_dataset(1, FILES.table, "accuracy"), "table2"),


rule fig_embedding_b:
    input:
        required(FILES.figure("embedding_train_test"), "fig_embedding_b"),


rule fig_variance:
    input:
        required(FILES.figure("variance"), "fig_variance"),


rule table_variance:
    input:
        required(FILES.table("variance"), "table_variance"),


rule fig_samples:
    input:
        of_each_dataset(FILES.figure, "samples"),


rule fig_training:
    input:
        required(FILES.figure("training"), "fig_training"),


rule fig_probes:
    input:
        required(FILES.figure("probes"), "fig_probes"),


rule fig_geometry:
    input:
        required(of_each_run(FILES.figure, "geometry"), "fig_geometry"),


rule fig_confusion:
    input:
        required(of_each_dataset(FILES.figure, "confusion"), "fig_confusion"),


rule fig_few_shot:
    input:
        required(of_each_dataset(FILES.figure, "few_shot"), "fig_few_shot"),


rule fig_similarity:
    input:
        required(of_each_dataset(FILES.figure, "similarity"), "fig_similarity"),


rule fig_transfer:
    input:
        required([*FILES.figure("transfer"), *FILES.figure("transfer_matrix")], "fig_transfer"),


rule table_comparison:
    input:
        required(of_each_dataset(FILES.table, "comparison"), "table_comparison"),


rule table_flaws:
    input:
        required(FILES.table("flaws"), "table_flaws"),


rule fig_layers:
    input:
        required(FILES.figure("layers"), "fig_layers"),


rule fig_sweep:
    input:
        required(FILES.figure("sweep"), "fig_sweep"),


rule table_sweep:
    input:
        required(FILES.table("sweep"), "table_sweep"),


rule table_collapse:
    input:
        required(FILES.table("collapse"), "table_collapse"),


rule table_runtime:
    input:
        FILES.table("runtime"),


refuse_unknown_targets()
