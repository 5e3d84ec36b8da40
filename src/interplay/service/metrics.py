"""What Prometheus reads of a service, in a registry of its own."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """Counts of requests, items and batches.

    Args:
        waiting: how many items wait now.
        loaded: how many models are in memory.
    """

    def __init__(self, waiting: Callable[[], int], loaded: Callable[[], int]) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "interplay_requests", "Answers by route and status.", ("route", "status"), registry=self.registry
        )
        self._seconds = Histogram(
            "interplay_request_seconds",
            "From the first byte of a request to the last of its answer.",
            ("route",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._items = Counter(
            "interplay_items", "Items answered, by model.", ("model",), registry=self.registry
        )
        self._batches = Histogram(
            "interplay_batch_items", "Items in a batch.", buckets=_SIZES, registry=self.registry
        )
        self._computing = Histogram(
            "interplay_batch_seconds", "Time of a batch.", buckets=_SECONDS, registry=self.registry
        )
        gauges = (
            ("interplay_waiting_items", "Items that wait.", waiting),
            ("interplay_loaded_models", "Models in memory.", loaded),
        )
        for name, words, value in gauges:
            Gauge(name, words, registry=self.registry).set_function(value)

    def request(self, route: str, status: int, seconds: float) -> None:
        """Count an answer."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def items(self, model: str, count: int) -> None:
        """Count items that a model answered."""
        self._items.labels(model).inc(count)

    def batch(self, size: int, seconds: float) -> None:
        """Count a batch."""
        self._batches.observe(size)
        self._computing.observe(seconds)

    def text(self) -> bytes:
        """What Prometheus reads."""
        return generate_latest(self.registry)
