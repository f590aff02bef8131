"""What a data set is: manifest, vocabulary, pictures, the tables that the data checks read, the .dvc file."""
