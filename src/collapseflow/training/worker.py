"""One of the processes of a training, ``python -m collapseflow.training.worker``.

Started by :func:`collapseflow.training.parallel.launch` only, through ``torch.distributed.run``.
"""

import json
import logging
import sys
from pathlib import Path

import torch
import torch.distributed as dist

from collapseflow.running.errors import TemporaryError, UserError
from collapseflow.running.files import write_json
from collapseflow.running.hardware import prepare_process, use_card
from collapseflow.training.loop import OutOfMemory, Training, train_epochs
from collapseflow.training.parallel import JsonLines, rank


def main(folder: Path) -> None:
    """Train as ``request.json`` says; the first process writes ``outcome.json``."""
    request = json.loads((folder / "request.json").read_text())
    prepare_process(request["threads"])
    # The only card that this process sees, or the CPU.
    device = torch.device(request["device"])
    try:
        if device.type == "cuda":
            use_card(device)
            # NCCL would else take the card with the process's number.
            dist.init_process_group("nccl", device_id=device)
        else:
            dist.init_process_group("gloo")
        handler = logging.StreamHandler(sys.stdout)
        handler.setFormatter(JsonLines())
        level = logging.INFO if rank() == 0 else logging.ERROR
        logging.basicConfig(level=level, handlers=[handler])
        train_epochs(
            Training(**request["training"]),
            device,
            Path(request["folder"]),
            request["micro_batch"],
        )
    except (UserError, OutOfMemory) as error:
        if isinstance(error, OutOfMemory):
            outcome = {"out_of_memory": error.micro_batch}
        else:
            outcome = {"error": str(error), "is_temporary": isinstance(error, TemporaryError)}
        # The others wait for this process, and are ended with it.
        write_json(folder / "outcome.json", outcome)
        sys.exit(1)
    if rank() == 0:
        write_json(folder / "outcome.json", {})
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
