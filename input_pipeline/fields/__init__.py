"""What a batch can hold beside the pixels of its images, one reader for each kind; table.py lists them."""
