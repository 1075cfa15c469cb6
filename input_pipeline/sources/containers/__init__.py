"""Containers of encoded images, each read as an ImageSource: folders, video frames, archives, LMDB, records, TFDS.

folder.py, frames.py (video, multiview), array_record.py, tfds.py
archives.py (tar, zip), with archive_paths.py, archive_members.py, tar_files.py and zip_files.py
lmdb_source.py, with lmdb_file.py
"""
