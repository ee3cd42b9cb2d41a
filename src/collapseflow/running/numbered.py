"""Files of epochs, by the numbers in their names."""

import glob
import re

from collapseflow.running.errors import UserError

#: Stands for the number of an epoch in a pattern, as ``*`` does for any text.
EPOCH = "{epoch}"


def find_numbered(pattern: str) -> dict[int, str]:
    """The files that a pattern matches, by the number where it has ``{epoch}``, in order.

    Raises
    ------
    UserError
        If the pattern has no or several ``{epoch}`` or matches no file, or if two files have one
        number.
    """
    parts = pattern.split(EPOCH)
    if len(parts) != 2:
        raise UserError(
            f"{pattern!r} has {EPOCH} {len(parts) - 1} times; allowed: once, where the number of "
            f"the epoch stands, as run7/epoch_{EPOCH}.ckpt"
        )
    words = [re.escape(part).replace(r"\*", "[^/]*") for part in parts]
    number = re.compile(r"(\d+)".join(words))
    found: dict[int, str] = {}
    for path in sorted(glob.glob("*".join(glob.escape(p).replace("[*]", "*") for p in parts))):
        match = number.fullmatch(path)
        if not match:
            continue
        epoch = int(match[1])
        if epoch in found:
            raise UserError(
                f"{found[epoch]} and {path} are both of epoch {epoch}; allowed: one file for each, "
                "by a pattern that tells them apart"
            )
        found[epoch] = path
    if not found:
        raise UserError(f"{pattern!r} matches no file; allowed: where the files are")
    return dict(sorted(found.items()))
