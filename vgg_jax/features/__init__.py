"""What a trained network has learned, used without its classifier."""
