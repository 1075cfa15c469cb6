"""Any source to ArrayRecord shards.

prepare.py     what a caller wants: the whole set, resumable, with its manifest
shard.py       one shard, a pure function of the request and its number
run.py         who makes the shards: processes of this machine, or Beam
companions.py  files beside the images that are carried along
scaling.py     annotations of an image that was shrunk
"""
