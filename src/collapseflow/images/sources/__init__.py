"""Where images come from. Each source gives a :class:`~collapseflow.images.datasets.Splits`.

What sources are told alike:

size, fit
    As :func:`collapseflow.images.sources.pictures.fitted`; without a size all images must have one.
test_fraction, seed
    The share of test images where the images come undivided, and what seeds their draw: class by
    class, and between groups where there are some.
threads
    Pictures are decoded on so many.
on_bad_image
    Whether what cannot be read as an image ends the reading (``stop``), or is left out (``skip``):
    the source then says how many were, and names the first.
"""
