"""Says what a report is: the tables' vocabulary, the decoder, descriptions, and plain values."""
