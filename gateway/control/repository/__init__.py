"""Folders of models: what is on offer, and whether it is what it was."""
