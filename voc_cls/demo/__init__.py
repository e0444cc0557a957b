"""The demo devkit: a small VOC2007 whose pictures are drawn, so that everything can be tried without a download."""
