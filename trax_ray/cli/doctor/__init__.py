"""`trax-ray doctor`: what is there, what is missing, and the way out.

Facts are gathered in one place, `run.examine`; each check is a function of facts. Neither Ray nor a model is loaded:
versions come from the metadata of what is installed.
"""
