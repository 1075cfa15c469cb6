"""What an annotated photo is: persons, boxes, masks, label planes; crops of persons, or whole photos."""
