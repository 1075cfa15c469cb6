"""Data sets as encoded images by position; input_pipeline/source.py defines the interface.

kinds.py      the kinds that `data.source` can name
table.py      how each kind is opened
recognize.py  the kind of data set at a path
index.py      long lists of images, kept in files and mapped into memory
combined.py   subsets and mixtures; subset.py: reproducible choices
spelling.py   names that a list and a disk write differently
containers/   where encoded images lie: folders, videos, ArrayRecord, TFDS, tar, zip, LMDB
annotated/    annotated photos: crops of persons, whole photos, masks, label planes
datasets/     one reader for each published data set or family
"""
