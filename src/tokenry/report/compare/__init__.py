"""A comparison as a page or a picture: loss against what it cost."""
