"""Modules that move features to where their object is, in images or in the BEV map."""
