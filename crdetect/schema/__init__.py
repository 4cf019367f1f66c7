"""What a parameter is: the kinds of values it may take, blocks of parameters, and their words."""
