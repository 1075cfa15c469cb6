"""Annotated photos: persons, boxes, masks and label planes; read as crops of persons or as whole images.

person.py          AnnotatedPerson and Annotations, which every reader of annotations makes
categories.py      which categories of annotations are persons
photos.py          the photos of a data set: where they are and their sizes
masks.py           pixels of a person; label_planes.py: a label for every pixel
matlab.py          MATLAB files
crops.py           Annotations -> CropSource (crop_source.py), an ImageSource with one crop per person
labeled_images.py  Labels -> an ImageSource of whole images
whole_photos.py    Annotations -> Labels of whole photos
"""
