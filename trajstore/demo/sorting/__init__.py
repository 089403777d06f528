"""The demo of sorting lists: a model of one layer of attention, and what its heads come to do."""
