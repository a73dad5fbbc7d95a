"""Teachers: trained from a recipe and kept in a store, or loaded from a checkpoint.

`store` needs no torch and belongs to the ground floor; so nothing is imported here.
"""
