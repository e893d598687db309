"""Ways of reading a feature, one file per family. These modules load no tensor library until something is read."""
