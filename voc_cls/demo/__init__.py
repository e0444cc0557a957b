"""The demo devkit: a small VOC2007 with generated images, to try everything without a download."""
