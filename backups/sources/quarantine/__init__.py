"""Where the files of a replaced database go as they are: beside it, on the same disk."""
