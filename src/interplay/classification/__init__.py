"""Classification of pairs: the classifier, probes, prediction, many adapters on one backbone."""
