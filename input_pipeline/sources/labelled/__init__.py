"""Data sets whose images are taken whole, with all their labels, as evaluations need them.

    source.py        the source that all of them are
    label_planes.py  parts.png and instances.png from whatever a data set keeps of them
    whole_photos.py  annotated photos with everybody in them, where crops.py cuts persons out
    captions.py      CUHK-PEDES, ICFG-PEDES, RSTPReid
    attributes.py    PA-100K, PETA, RAP
    parsing.py       LIP, CIHP, ATR, Clothing Co-Parsing
    fashionpedia.py  classes of a COCO JSON as pixels
"""
