"""What every picture of an explanation shares: places in raw inputs, words, thumbnails."""
