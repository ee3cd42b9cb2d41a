"""What an interrupted job has finished, kept outside its declared outputs.

Snakemake deletes a job's outputs before it runs the job again and after the job has failed. The
finished epochs of a training, and the finished parts of other long jobs, therefore stand in a
folder of their own, together with a digest of everything they depend on: a job that starts again,
for whatever reason, takes the parts that are still valid and does the rest. Trained weights that
are no longer valid are set aside, never deleted.
"""

import errno
import hashlib
import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from collapseflow.running.errors import UserError
from collapseflow.running.files import (
    atomic_path,
    checksum_file,
    link_or_copy_checksums,
    read_json,
    remove_partial,
    write_json,
)

logger = logging.getLogger(__name__)

#: In a folder of parts: what they depend on.
DEPENDENCIES = "depends_on.json"
#: In the name of a folder of parts that were set aside.
SET_ASIDE = "-set-aside-"
#: What file systems without hard links, or with a limit on them, answer.
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EXDEV, errno.EMLINK, errno.ENOSYS}


#: What the parts took that this process has taken over from earlier tries of its job, in seconds.
_earlier_seconds: list[float] = []


def count_earlier_seconds(seconds: float) -> None:
    """Count a finished part that an earlier try made in so many seconds as part of this job."""
    _earlier_seconds.append(seconds)


def seconds_taken_over() -> float:
    """What the parts took, in earlier tries, that this process did not make again."""
    return sum(_earlier_seconds)


def digest(depends_on: Mapping[str, Any]) -> str:
    """Sixteen hexadecimal digits of the content of a JSON-like mapping."""
    content = json.dumps(depends_on, sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def valid_folder(folder: str | Path, depends_on: Mapping[str, Any]) -> Path:
    """The folder below ``folder`` for parts that depend on ``depends_on``.

    It is made if it is new; what a killed job was just writing is deleted. Folders of parts with
    other dependencies stay, and are named in the log: who returns to an earlier setting finds
    there what was finished with it. ``depends_on.json`` in each says what its parts depend on.
    """
    folder = Path(folder)
    valid = folder / digest(depends_on)
    valid.mkdir(parents=True, exist_ok=True)
    for partial in valid.glob(".*.part.*"):
        partial.unlink()
    write_json(valid / DEPENDENCIES, depends_on)
    others = sorted(path for path in folder.iterdir() if path.is_dir() and path != valid)
    if others:
        logger.info(
            "finished parts that depend on something else stay in %s; delete what is not needed",
            ", ".join(map(str, others)),
        )
    return valid


def set_aside(parts: Sequence[Path]) -> Path:
    """Move parts that cannot be used out of the way, into a new folder beside theirs.

    Returns
    -------
    The folder.
    """
    folder = parts[0].parent
    aside = Path(tempfile.mkdtemp(prefix=f"{folder.name}{SET_ASIDE}", dir=folder.parent))
    for part in parts:
        os.replace(part, aside / part.name)
    return aside


def read_kept(path: str | Path) -> dict | None:
    """What a JSON file keeps; None if there is no whole one, and the work is to be done again."""
    try:
        return read_json(path)
    except UserError:
        return None


def kept_result(path: str | Path, depends_on: Mapping[str, Any], compute: Callable[[], Any]) -> Any:
    """A JSON-like result: read from ``path`` if it was kept for the same dependencies, else
    computed and kept there with the seconds that it took."""
    key = digest(depends_on)
    kept = read_kept(path)
    if isinstance(kept, dict) and kept.get("depends_on") == key and "result" in kept:
        # Parts of earlier versions do not say.
        count_earlier_seconds(kept.get("seconds", 0.0))
        return kept["result"]
    remove_partial(path)
    started = time.perf_counter()
    result = compute()
    seconds = time.perf_counter() - started
    write_json(path, {"depends_on": key, "seconds": seconds, "result": result})
    return result


def publish(part: str | Path, output: str | Path) -> None:
    """Let a finished part appear as an output, whole: a hard link, which takes no space, or a
    copy where the file system has none."""
    with atomic_path(output) as temporary:
        try:
            os.link(part, temporary)
            # An output that is older than its job's inputs would be made again.
            os.utime(temporary)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            shutil.copyfile(part, temporary)
        checksum_file(output).unlink(missing_ok=True)
    link_or_copy_checksums(part, output)
