"""Pictures and labels: readers, the preprocessing, the input pipeline, the generated demo devkit."""
