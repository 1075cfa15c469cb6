"""The built-in people: a small renderer of dressed 3-D bodies, so that everything can be tried without a download.

skeleton -> pose of a body; appearance -> its clothes; figure -> both as solids; raycast -> those solids as pixels;
background -> where it stands; render -> one picture; prepare -> a data set on disk; dataset -> reading it.
"""
