"""What the jobs of a study cost."""

import pandas as pd

from collapseflow.presentation.material import Material, Outputs
from collapseflow.presentation.tables.writing import write_table
from collapseflow.running.files import readable
from collapseflow.running.jobs import cost_file
from collapseflow.running.resume import read_kept


def runtime_table(material: Material, outputs: Outputs) -> None:
    """Wall time and peak memory of the jobs that compute.

    Snakemake's own file has the wall time of the last run of a job; the file that the job itself
    wrote (:func:`collapseflow.running.jobs.cost_file`) has what earlier runs left for the last one,
    and the peak memory.
    """
    records = []
    costs = map(cost_file, material.job_logs)
    jobs = zip(material.jobs, material.benchmarks, costs, strict=True)
    for (stage, dataset, name), path, cost in jobs:
        with readable(path):
            last_run = float(pd.read_csv(path, sep="\t", na_values="-")["s"].mean())
        # Results of earlier versions have none.
        known = read_kept(cost) or {"seconds_taken_over": 0.0, "peak_memory_mib": None}
        minutes = material.published_minutes.get(f"{stage}/{dataset}/{name}")
        records.append(
            {
                "stage": stage,
                "dataset": dataset,
                "job": name,
                "seconds": last_run + known["seconds_taken_over"],
                "seconds_of_last_run": last_run,
                "peak_memory_mib": known["peak_memory_mib"],
                "published": None if minutes is None else 60 * minutes,
            }
        )
    tidy = pd.DataFrame(records)
    rows = []
    for r in tidy.itertuples():
        words = ", ".join(filter(None, (f"{r.stage} {r.dataset}".strip(), r.job)))
        time = f"{r.seconds:.1f}"
        time += "" if pd.isna(r.published) else f" ({r.published:.0f})"
        memory = "not recorded" if pd.isna(r.peak_memory_mib) else f"{r.peak_memory_mib:.0f}"
        rows.append([words, time, memory])
    notes = [
        "Wall time of the whole computation: the last run of the job, with the start of its "
        "process, and the finished parts (epochs, classifiers) that it took over from earlier "
        "runs; what was lost in a run that was stopped does not count. Peak memory: the resident "
        "set of the last run's largest process. Drawing and tabulating are left out.",
    ]
    if tidy["published"].notna().any():
        notes.append("In brackets: report B, on a laptop.")
    header = ["job", "wall time, s", "peak memory, MiB"]
    write_table(outputs, tidy, header, rows, notes)
