"""`saip prepare`: converts any source to ArrayRecord shards.

prepare.py     the whole set, resumable, with its manifest
shard.py       one shard, a pure function of the request and its number
run.py         runs the shards in processes of this machine, or under Beam
side_files.py  files beside the images that become annotations
scaling.py     annotations of a shrunk image
"""
