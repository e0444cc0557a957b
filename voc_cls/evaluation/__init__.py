"""VOC average precision and the tables made of it."""
