"""Data sets as encoded images by position.

base.py       what a source is
table.py      the kinds that `data.source` can name, and how each is opened
recognize.py  which kind a path looks like
index.py      long lists of images, remembered in files and mapped into memory
combined.py   subsets and mixtures; subset.py: reproducible choices
spelling.py   names that a list and a disk write differently
folder.py, frames.py (video, multiview), array_record.py, tfds.py, archives.py (tar, zip), lmdb_source.py, reid.py,
crops.py (persons cut out of annotated photos: annotations/), labeled/ (whole images with all their labels)
"""
