"""Quality of experience: path quality -> score per application. Pure functions; every constant has a source.

profile       weights and anchors as data (`profiles/*.toml`), read and checked
sensitivity   the weighted score of a path, and which metric costs it most
"""
