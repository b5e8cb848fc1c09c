"""How the shipped ``demo`` model is made: pictures, clips, captions, the training of its parts, and its figures."""
