"""Takes what guests report and writes it down, so that no guest ever comes near the metadata database."""
