"""HTML pages about runs, evaluations, comparisons and annotation: each one file that opens from disk, alone."""
