"""A zoo of hostile and odd media: made by programs that nobody here wrote, and by hand where none makes such a thing.

`python -m tests.support.zoo FOLDER` makes it; `--docs` measures each file and rewrites the table of `docs/media.md`.
"""
