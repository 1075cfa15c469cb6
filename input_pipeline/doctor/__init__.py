"""The doctor for data: what a data set is, what is wrong with it, and what to do about it, before training finds out.

checkup (`doctor`, all of it), examine (reads and decodes images), look (one image), formats (what bytes really are),
duplicates (exact and near copies), known_sets (published sets by their counts), facts (everything as one dict),
advice, report (the text), picture (sizes.png).
"""
