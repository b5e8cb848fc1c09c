"""From clips to requests, destinations and fingerprints; everything that can be refused before a submit."""
