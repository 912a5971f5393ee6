"""Small widgets that teach one idea each, in their chapters: controls over a picture that answers at once."""
