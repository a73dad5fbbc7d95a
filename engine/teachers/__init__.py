"""Teachers: trained from a recipe and kept in a store, or loaded from a checkpoint.

`store` and `cache_files` need no torch and belong to the ground floor; so nothing is imported here.
"""
