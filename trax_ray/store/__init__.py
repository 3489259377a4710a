"""What a batch keeps on disk: journal, artifacts, names of outputs, the lock. No Ray, standard library only.

files      atomic and exclusive writes, and what an OSError means
journal    records in groups, one fsync per group, one segment per file
epochs     whose turn it is, and the chain of segments that replay follows
artifacts  committed results by content key; content hashes that are remembered
lease      a lock on a local output folder
layout     where everything lies, and the names of transcripts
"""
