"""How the shipped ``demo`` model is made: synthetic clips, captions, and the training of its parts."""
