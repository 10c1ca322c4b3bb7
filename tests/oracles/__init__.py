"""A second implementation of model, losses and attribution: plain, sequential, obviously right."""
