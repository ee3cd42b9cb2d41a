"""One of the processes of a training, ``python -m collapseflow.training.worker``.

Started by :func:`collapseflow.training.parallel.launch` only, through ``torch.distributed.run``.
"""

import json
import logging
import sys
from pathlib import Path

import torch
import torch.distributed as dist

from collapseflow.running.errors import UserError
from collapseflow.running.files import write_json
from collapseflow.running.hardware import prepare_process, use_card
from collapseflow.training.loop import OutOfMemory, Training, train_epochs
from collapseflow.training.parallel import JsonLines, rank


def main(folder: Path) -> None:
    """Train as ``request.json`` says; the first process writes ``outcome.json``."""
    request = json.loads((folder / "request.json").read_text())
    prepare_process(request["threads"])
    with_cards = request["devices"][0].startswith("cuda")
    dist.init_process_group("nccl" if with_cards else "gloo")
    device = torch.device(request["devices"][rank()])
    if with_cards:
        use_card(device)
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.INFO if rank() == 0 else logging.ERROR, handlers=[handler])
    outcome = {}
    try:
        train_epochs(
            Training.from_json(request["training"]),
            device,
            Path(request["folder"]),
            request["micro_batch"],
        )
    except UserError as error:
        outcome = {"error": str(error)}
    except OutOfMemory as error:
        # The others wait for this process, and are ended with it.
        write_json(folder / "outcome.json", {"out_of_memory": error.micro_batch})
        sys.exit(1)
    if rank() == 0:
        write_json(folder / "outcome.json", outcome)
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
