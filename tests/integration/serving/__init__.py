"""voc-serve and voc-predict as processes of their own, over real ports."""
