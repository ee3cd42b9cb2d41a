"""Where images come from. Each source gives a :class:`~collapseflow.images.datasets.Splits`."""
