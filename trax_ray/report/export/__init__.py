"""A report handed on: to spreadsheets, to other programs for speech, to people who write.

reading     inputs with their segments, from the tables
lines       jsonl, csv and manifest: one stream
documents   docx, with speakers and times
textgrids   TextGrid, for Praat and what reads its files
write       which of them, and where to
"""
