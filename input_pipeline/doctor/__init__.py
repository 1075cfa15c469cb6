"""`saip doctor`: reports what a data set holds, its faults, and what to do about them, before training.

checkup.py        the whole command
examine.py        reads and decodes the images; inspect_image.py: one image
formats.py        the format of a file, from its bytes
duplicates.py     exact and near copies
known_sets.py     published data sets, from their number of images
facts.py          all findings as one JSON-able dict
advice.py         advice from the facts
report.py         facts and advice as text; picture.py: sizes.png
"""
