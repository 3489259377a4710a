"""Media: decoding, probing, speech detection, chunk cutting, subtitles."""
