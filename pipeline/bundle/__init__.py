"""The folder that edgec hands over."""
