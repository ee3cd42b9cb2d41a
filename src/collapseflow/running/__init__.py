"""What jobs of any kind need: files, devices, interruptions, errors, SLURM."""

import sys

# Before the first import of what is missing there, fcntl and resource.
if sys.platform == "win32":
    sys.exit(
        "collapseflow runs on Linux and macOS; on Windows run it in WSL2, which is Linux and sees "
        "the card (wsl --install)"
    )
