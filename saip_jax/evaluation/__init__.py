"""What a pre-trained backbone is worth: its features of images, and measures made from them."""
