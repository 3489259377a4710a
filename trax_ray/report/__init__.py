"""The report of a batch: built from journal and artifacts alone, at any time, by anybody. No Ray.

fold     the journal once more: the state of the batch, and every attempt that was made
schemas  the columns of the four tables
tables   state and artifacts as rows
parquet  rows to Parquet, in pieces, in one atomic step
page     the same as one page, for people
write    all files of `OUT/report/`
search   words found in what was said
export   the report for spreadsheets, for other programs, and as documents
frames   a table as a DataFrame
summary  what a summary in the terminal shows
transcripts  transcripts by artifact key
text     text that any reader can take
"""
