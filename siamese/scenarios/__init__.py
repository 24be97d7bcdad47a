"""What the two scripts of a scenario share."""
