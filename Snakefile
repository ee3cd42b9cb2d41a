from snakemake.utils import min_version

min_version("9.13")


report: "workflow/report/workflow.rst"


include: "workflow/rules/study.smk"
include: "workflow/rules/common.smk"


pathvars:
    results=RESULTS,


wildcard_constraints:
    dataset=any_of(STUDY.datasets),
    backbone=any_of(STUDY.backbones),
    model=any_of(entry.model for entry in STUDY.backbones.values()),
    wheel=any_of(package.wheel for package in PACKAGES.values()),
    features=any_feature_set(),
    epoch=r"\d\d\d+",
    split="train|test",
    method="opentsne|sklearn",


onstart:
    before_the_first_job()


onsuccess:
    after_the_last_job()


# The first rule, and so the default target.
rule all:
    input:
        everything(),
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
include: "workflow/rules/summary.smk"


# The numbers of the reports: the first and the second data set of the study file.
rule fig1:
    input:
        of_each_dataset(figure, "scattering"),


rule fig2:
    input:
        of_dataset(0, figure, "embedding"),


rule fig3:
    input:
        required(of_dataset(1, figure, "embedding"), f"fig3: {NO_SECOND}"),


rule fig4:
    input:
        required(of_finetuning(figure("accuracy_per_epoch")), f"fig4: {NO_FINETUNING}"),


rule fig5:
    input:
        required(of_finetuning(figure("collapse")), f"fig5: {NO_FINETUNING}"),


rule table1:
    input:
        of_dataset(0, table, "accuracy"),


rule table2:
    input:
        required(of_dataset(1, table, "accuracy"), f"table2: {NO_SECOND}"),


rule fig_embedding_b:
    input:
        required(of_variance(figure("embedding_train_test")), f"fig_embedding_b: {NO_VARIANCE}"),


rule fig_variance:
    input:
        required(of_variance(figure("variance")), f"fig_variance: {NO_VARIANCE}"),


rule table_variance:
    input:
        required(of_variance(table("variance")), f"table_variance: {NO_VARIANCE}"),


rule fig_samples:
    input:
        of_each_dataset(figure, "samples"),


rule table_runtime:
    input:
        table("runtime"),


refuse_unknown_targets()
