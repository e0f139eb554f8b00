"""Chunks that wait for the credit of later ones."""
