"""What `pychrony.testing` is made of; pytest loads `fixtures` from here in every project."""
