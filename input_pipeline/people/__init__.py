"""The built-in people: a renderer of dressed 3-D bodies with every label, so that all can be tried without a download.

Who: skeleton (joints, bodies), gait and motion (poses, cycles), cloth and appearance (outfits), solid, figure and head
(both as solids), parts and landmarks (what solids and points are called), attributes (yes-or-no facts, captions).
Where: place (ground, walls, sky), light (sun, shadows), scene (people and things at one moment), station (cameras).
Pictures: raycast (solids to pixels), render (a scene through a camera), labels, picture; spec (which endless set) and
compositions (which picture stands at which index).
On disk: records, description, prepare (sets that survive a kill), dataset (reading them), export and its two formats,
preview (contact sheets).
"""
