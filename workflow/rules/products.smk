# Every table and figure, and the targets on the command line. What there is stands in
# src/collapseflow/study/products.py: one entry each.


for product in PRODUCTS:

    rule:
        name:
            product.rule
        input:
            **{kind: asked(READS[kind]) for kind in product.reads},
        output:
            **reported(product),
        log:
            f"<results>/logs/{product.job}.log",
        benchmark:
            f"<results>/benchmarks/{product.job}.tsv"
        localrule: True
        conda:
            "../envs/collapseflow.yaml"
        threads: 1
        resources:
            mem_mb=megabytes(product.megabytes),
            runtime=minutes(product.minutes),
        params:
            **{name: asked(SHOWS[name]) for name in product.shows},
            draw=product.draw,
            caption=caption_of(product),
            splits=list(product.splits),
            code=code_of("present", product.draw),
        message:
            product.message
        script:
            "../scripts/present.py"


# What may be asked for by name: some of these files.
for target in target_names():

    rule:
        name:
            target
        input:
            lazily(in_one_line(target_files), target, PLAN),
