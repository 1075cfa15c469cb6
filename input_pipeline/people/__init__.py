"""Built-in people: a renderer of dressed 3-D bodies with exact labels, so that everything runs without a download.

People: skeleton (joints, proportions), gait and motion (poses, motion cycles), cloth and appearance (outfits), solid
(the shape that bodies consist of), figure and head (the solids of a body), parts and landmarks (names of body parts and
points), attributes (binary attributes, captions).
Places: place (ground, walls, sky), light (sun, shadows), scene (people and things at one moment), station (cameras).
Images: raycast (solids to pixels), render (a scene through a camera), labels, picture; spec (which endless set) and
compositions (what the image at an index shows).
Files: records, description, prepare (resumable rendering of a set), dataset (reading a set), export and its two
formats, preview (contact sheets).
"""
