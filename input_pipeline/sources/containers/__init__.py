"""Where the bytes of images lie: folders, video frames, archives, LMDB files, records, TFDS."""
