"""Readers of annotated photos: each turns one family of formats into persons, which crops.py makes images of."""
