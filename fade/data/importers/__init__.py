"""One data set a file: how to recognise an archive of it, its rows and its names."""
