from snakemake.utils import min_version

min_version("9.13")


report: "workflow/report/workflow.rst"


include: "workflow/rules/study.smk"
include: "workflow/rules/common.smk"


pathvars:
    results=RESULTS,


wildcard_constraints:
    dataset="[A-Za-z][A-Za-z0-9_]*",
    backbone="[A-Za-z][A-Za-z0-9_]*",
    classifier="[A-Za-z][A-Za-z0-9_]*",
    epoch=r"\d{3}",
    split="train|test",
    method="opentsne|sklearn",


include: "workflow/rules/data.smk"
include: "workflow/rules/weights.smk"
include: "workflow/rules/finetuning.smk"
include: "workflow/rules/features.smk"
include: "workflow/rules/collapse.smk"
include: "workflow/rules/classification.smk"
include: "workflow/rules/embedding.smk"
include: "workflow/rules/variance.smk"
include: "workflow/rules/summary.smk"


onstart:
    before_the_first_job()


onsuccess:
    after_the_last_job()


rule all:
    default_target: True
    input:
        everything(),
        f"{RESULTS}/summary.md",
    message:
        f"Every table and figure of the study {STUDY.study} is there"


# The numbers of the reports: the first and the second data set of the study file.
rule fig1:
    input:
        of_each_dataset(figure, "scattering"),


rule fig2:
    input:
        of_dataset(0, figure, "embedding"),


rule fig3:
    input:
        of_dataset(1, figure, "embedding"),


rule fig4:
    input:
        of_finetuning(figure("accuracy_per_epoch")),


rule fig5:
    input:
        of_finetuning(figure("collapse")),


rule table1:
    input:
        of_dataset(0, table, "accuracy"),


rule table2:
    input:
        of_dataset(1, table, "accuracy"),


rule fig_embedding_b:
    input:
        of_variance(figure("embedding_train_test")),


rule fig_variance:
    input:
        of_variance(figure("variance")),


rule table_variance:
    input:
        of_variance(table("variance")),


rule fig_samples:
    input:
        of_each_dataset(figure, "samples"),


rule table_runtime:
    input:
        table("runtime"),
