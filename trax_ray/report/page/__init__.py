"""The report as one page, `OUT/report/index.html`: a single file that opens offline and asks nobody for anything.

rows     what the page says of an input and of its segments
pack     these in compressed chunks, so that ten thousand recordings are a few megabytes
ranking  the worst places of all, for those that are most worth hearing
figures  failures by reason, costs and distributions, added up while the rows pass by
drawing  charts as SVG
times    the run as a timeline
write    the page itself
assets   template, style and scripts
"""
