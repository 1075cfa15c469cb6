"""What a batch can hold beside the pixels of its images: one reader for each kind of annotation, listed in table.py."""
