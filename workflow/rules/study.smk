# The embedded study is what runs when no other is given. A study file given with --configfile
# stands alone: Snakemake would merge it into this one.
if not workflow.overwrite_configfiles:

    configfile: "config/config.yaml"
