"""What a call of Snakemake would do, why, and what it takes, in a table of a few lines."""

import glob
import re
import textwrap
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from collapseflow.running.engine import Planned
from collapseflow.running.jobs import cost_file
from collapseflow.running.resume import read_kept
from collapseflow.study.announcements import Training, finished_epochs

#: Columns of a line, and how many reasons, and changes in one of them, are told.
WIDTH, REASONS, CHANGES = 80, 12, 3
#: What jobs do, and the rules that do it; a job that makes a table, a figure or a page draws, and
#: every other one measures.
KINDS = {
    "prepared": ("prepare_dataset", "render_letters", "unpack_weights", "initialize_weights"),
    "downloaded": ("download_weights", "download_package"),
    "trained": ("pretrain", "finetune"),
    "read": ("extract_raw", "extract_scattering", "extract_network"),
    "measured": (),
    "drawn": (),
}
DRAWN = re.compile(r"/(figures|tables)/|\.(md|html)$")


def kind_of(job: Planned) -> str:
    """What a job does, a key of :data:`KINDS`."""
    named = next((kind for kind, rules in KINDS.items() if job.rule in rules), None)
    return named or ("drawn" if any(map(DRAWN.search, job.outputs)) else "measured")


# --- what has run -----------------------------------------------------------------------------


@dataclass
class Past:
    """What jobs of all studies below a folder have taken, told by the one most like a new one.

    Two jobs are alike where the names in their paths agree. Of trainings and whatever is made of a
    data set, data set and backbone have to agree.

    Parameters
    ----------
    results
        The folder with one folder for each study.
    """

    results: Path
    used: set[Path] = field(default_factory=set)
    _found: dict[str, list[Path]] = field(default_factory=dict)

    def seconds(self, job: Planned, epochs: int | None = None) -> float | None:
        """How long a job may take, of a training ``epochs`` of it; None if none like it has run."""
        like = self._most_alike(Path(job.benchmark), kind_of(job) != "drawn")
        times = [time for path in like if (time := _seconds(path, epochs)) is not None]
        if not times:
            return None
        self.used |= set(like)
        return sum(times) / len(times)

    def bytes(self, job: Planned) -> float | None:
        """How large its outputs may be; None if there are none like one of them."""
        sizes = []
        for output in map(Path, job.outputs):
            like = self._most_alike(output, kind_of(job) != "drawn")
            if not like:
                return None
            sizes.append(sum(map(_size, like)) / len(like))
        return sum(sizes)

    def _most_alike(self, path: Path, strict: bool) -> list[Path]:
        parts = path.parts[len(self.results.parts) :]
        if path.parts[: len(self.results.parts)] != self.results.parts or len(parts) < 2:
            return []
        # Of a benchmark the rule's name stands between.
        n_fixed = 3 if parts[1] == "benchmarks" else 2
        names = parts[n_fixed:]
        n_needed = (2 if len(names) > 2 else min(1, len(names))) if strict else 0
        needed = map(glob.escape, parts[1 : n_fixed + n_needed])
        pattern = "/".join(["*", *needed, *["*"] * (len(names) - n_needed)])
        if pattern not in self._found:
            self._found[pattern] = list(self.results.glob(pattern))
        by_likeness: dict[int, list[Path]] = {}
        for other in self._found[pattern]:
            if other.suffix == path.suffix:
                others = other.parts[len(self.results.parts) :]
                likeness = sum(a == b for a, b in zip(parts, others, strict=True))
                by_likeness.setdefault(likeness, []).append(other)
        return by_likeness[max(by_likeness)] if by_likeness else []


def _seconds(benchmark: Path, epochs: int | None) -> float | None:
    """The seconds of a job by its benchmark file, with those of the parts that it took over; of a
    training so many epochs of it, if its log says how many there were."""
    try:
        header, values, *_ = benchmark.read_text(encoding="utf-8").splitlines()
        seconds = float(dict(zip(header.split("\t"), values.split("\t"), strict=True))["s"])
    except (OSError, ValueError, KeyError):
        return None
    parts = list(benchmark.parts)
    place = len(parts) - 1 - parts[::-1].index("benchmarks")
    log = Path(*parts[:place], "logs", *parts[place + 1 :])
    seconds += (read_kept(cost_file(log)) or {}).get("seconds_taken_over", 0.0)
    if epochs is None:
        return seconds
    name = Path(*parts[place + 2 :]).with_suffix("")
    trained = read_kept(Path(*parts[:place], "training", name, "log.json"))
    return seconds / len(trained) * epochs if trained else None


def _size(path: Path) -> int:
    files = [path] if path.is_file() else path.rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file())


# --- why --------------------------------------------------------------------------------------


def reason(job: Planned) -> str:
    """Why a job runs: which parameters changed from what to what, key by key, or its cause.

    What is drawn anew from new input has that cause: labels and lists follow from the same change.
    """
    if not job.now and not job.before or (job.cause and kind_of(job) == "drawn"):
        return job.cause
    changes = changed(job.before, job.now)
    more = len(changes) - CHANGES
    return ", ".join(changes[:CHANGES]) + (f" and {more} more" if more > 0 else "")


def changed(before: Iterable[Any], now: Mapping[str, Any]) -> list[str]:
    """Which values changed from what to what.

    Parameters
    ----------
    before
        The values that no longer hold, without their names.
    now
        The new values by name; each stands for the earlier one that is most like it.
    """
    left, words = list(before), []
    for name, value in now.items():
        was = max(left, key=lambda one: _likeness(one, value), default=None)
        if was is None and not left or not _likeness(was, value):
            words.append(f"{name} is now {_short(value)}")
            continue
        left.remove(was)
        words += ["the code has changed"] if name == "code" else _differences(name, was, value)
    return words or [f"{_short(value)} is gone" for value in left]


def _likeness(was: Any, value: Any) -> float:
    """How much two values are alike; 0 if the one cannot stand for the other."""
    if isinstance(was, dict) and isinstance(value, dict):
        return 1 + sum(key in was for key in value) + sum(was.get(k) == v for k, v in value.items())
    if isinstance(was, list) and isinstance(value, list):
        return 1 + (_likeness(was[0], value[0]) if was and value else 0)
    if isinstance(was, str) and isinstance(value, str):
        return 1 + (_is_digest(was) == _is_digest(value))
    if was is None or value is None:
        return 0.5
    numbers = (int, float)
    return float(
        type(was) is type(value) or isinstance(was, numbers) and isinstance(value, numbers)
    )


def _is_digest(text: str) -> bool:
    return bool(re.fullmatch("[0-9a-f]{16}", text))


def _differences(name: str, was: Any, now: Any) -> list[str]:
    if isinstance(was, dict) and isinstance(now, dict):
        words = []
        for key in [*now, *(key for key in was if key not in now)]:
            if key not in was:
                words.append(f"{name}.{key} is now {_short(now[key])}")
            elif key not in now:
                words.append(f"{name}.{key} is gone")
            elif was[key] != now[key]:
                words += _differences(f"{name}.{key}", was[key], now[key])
        return words
    if isinstance(was, list) and isinstance(now, list):
        whole = f"{name} {now!r} instead of {was!r}"
        if len(whole) <= WIDTH:
            return [whole]
        if len(was) != len(now):
            return [f"{name}: {len(now)} entries instead of {len(was)}"]
        pairs = [(a, b) for a, b in zip(was, now, strict=True) if a != b]
        found = [words for a, b in pairs for words in _differences(name, a, b)]
        return list(dict.fromkeys(found))
    return [f"{name} {_short(now)} instead of {_short(was)}"]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


# --- the table --------------------------------------------------------------------------------


def forecast(
    study: str,
    jobs: Collection[Planned],
    trainings: Iterable[Training],
    announced: Iterable[str],
    past: Past,
) -> str:
    """What is going to be done in a study, why, and what that takes, in lines of 80 columns.

    Parameters
    ----------
    jobs
        All planned jobs; those without outputs only name others, and are left out.
    trainings
        The trainings among them, in the order of ``jobs``.
    announced
        What is said before a call of Snakemake in any case.
    past
        What has run, which the estimates are from.
    """
    jobs = [job for job in jobs if job.outputs]
    trainings = iter(trainings)
    kept, asked, unknown = 0, 0, 0
    n_jobs: Counter[str] = Counter()
    seconds: dict[str, list[float]] = {}
    sizes: dict[str, list[float]] = {}
    for job in jobs:
        kind, epochs, share = kind_of(job), None, 1.0
        if kind == "trained":
            training = next(trainings)
            total = training.recipe["epochs"]
            finished = finished_epochs(training)
            kept, asked = kept + finished, asked + total
            # A pretraining keeps no log that says how many epochs its seconds were.
            epochs = total - finished if training.log else None
            share = 1.0 if training.log else (total - finished) / total
        n_jobs[kind] += 1
        taken, size = past.seconds(job, epochs), past.bytes(job)
        unknown += taken is None or size is None
        seconds.setdefault(kind, []).extend([] if taken is None else [taken * share])
        sizes.setdefault(kind, []).extend([] if size is None else [size])
    label = {
        "trained": f"trained: {asked - kept} epochs new, {kept} kept",
        "read": f"read: {n_jobs['read']} feature sets",
    }
    lines = [f"study {study}", f"{'':50}{'jobs':>6}{'hours':>12}{'GB':>12}"]
    for kind in filter(n_jobs.__contains__, KINDS):
        hours, gigabytes = _sum(seconds[kind], 3600), _sum(sizes[kind], 1e9)
        lines.append(f"{label.get(kind, kind):50}{n_jobs[kind]:6}{hours:>12}{gigabytes:>12}")
    note = (
        "Hours: one job after another; GB: files that stay. Both as jobs like these have taken "
        f"below {past.results}/ (jobs: {len(past.used)})"
        + (f"; left out, because too little is known: {unknown}" if unknown else "")
        if past.used
        else f"Nothing like this has run below {past.results}/"
    )
    lines += [*textwrap.wrap(note, WIDTH), "", "why"]
    rules: dict[str, Counter[str]] = {}
    for job in jobs:
        rules.setdefault(reason(job), Counter())[job.rule] += 1
    reasons = sorted(rules, key=lambda text: -rules[text].total())
    for text in reasons[:REASONS]:
        named = [rule for rule, _ in rules[text].most_common(CHANGES)]
        more = len(rules[text]) - len(named)
        named += [f"{more} more"] if more else []
        lines += _entry(f"{rules[text].total():6}  ", f"{text} ({', '.join(named)})")
    if others := reasons[REASONS:]:
        n_more = sum(rules[text].total() for text in others)
        lines += _entry(f"{n_more:6}  ", f"other reasons: {len(others)}")
    for text in announced:
        lines += ["", *textwrap.wrap(text, WIDTH, break_long_words=False, break_on_hyphens=False)]
    return "\n".join(lines)


def _sum(values: Sequence[float], unit: float) -> str:
    return f"{sum(values) / unit:.2f}" if values else "not known"


def _entry(start: str, text: str) -> list[str]:
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=start,
        subsequent_indent=" " * len(start),
        break_long_words=False,
        break_on_hyphens=False,
    )
