"""No test asks a hub: what it needs it makes."""

import os

# Before the libraries are imported, which read them once.
os.environ["HF_HUB_OFFLINE"] = os.environ["HF_DATASETS_OFFLINE"] = "1"
