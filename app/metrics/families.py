"""The service's state as Prometheus metric families, read from the ledger at the moment of a scrape."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from core.jobs.states import ACTIVE, TERMINAL, Status
from core.jobs.statistics import ActiveJobs, Histogram, Totals
from core.queues import KINDS, QUEUES
from core.workers.repository import WorkerState
from pruning.errors import ErrorClass

Family = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily

_CLASSES: tuple[str, ...] = get_args(ErrorClass)


@dataclass(frozen=True, eq=False)  # a registry keeps its collectors by identity
class Scrape(Collector):
    """One reading. Every series is there from the start, with 0 where nothing happened yet."""

    active: Sequence[ActiveJobs]
    totals: Totals
    workers: Sequence[WorkerState]
    rate_fallbacks: int
    pending_deliveries: int

    def collect(self) -> Iterator[Family]:
        """The families, always in the same order."""
        yield from self._jobs()
        yield from self._ended()
        yield _histogram("prunery_job_wait_seconds", "From creation to the first attempt.", self.totals.wait)
        yield _histogram("prunery_job_run_seconds", "From the first attempt to the end.", self.totals.run)
        yield from self._workers()
        yield CounterMetricFamily(
            "prunery_rate_limit_fallbacks",
            "Requests that this API process counted by itself because Redis was away.",
            self.rate_fallbacks,
        )
        pending = GaugeMetricFamily(
            "prunery_webhook_deliveries_pending", "Messages that are still to be sent."
        )
        pending.add_metric((), self.pending_deliveries)
        yield pending

    def _jobs(self) -> Iterator[Family]:
        found = {(jobs.queue, jobs.status): jobs for jobs in self.active}
        depth = GaugeMetricFamily("prunery_jobs", "Jobs that are not over.", labels=("queue", "status"))
        oldest = GaugeMetricFamily(
            "prunery_oldest_queued_job_age_seconds",
            "Age of the oldest job that waits; 0 when none does.",
            labels=("queue",),
        )
        for queue in QUEUES:
            for status in sorted(ACTIVE):
                jobs = found.get((queue, status))
                depth.add_metric((queue, status), jobs.count if jobs else 0)
            waiting = found.get((queue, Status.QUEUED))
            oldest.add_metric((queue,), waiting.oldest_seconds if waiting else 0.0)
        yield depth
        yield oldest

    def _ended(self) -> Iterator[Family]:
        ended = CounterMetricFamily("prunery_jobs_ended", "Jobs that are over.", labels=("queue", "status"))
        failed = CounterMetricFamily(
            "prunery_jobs_failed", "Jobs that failed, by class of error.", labels=("queue", "error_class")
        )
        for queue in QUEUES:
            for status in sorted(TERMINAL):
                ended.add_metric((queue, status), self.totals.ended[queue, status])
            for error_class in _CLASSES:
                failed.add_metric((queue, error_class), self.totals.failed[queue, error_class])
        yield ended
        yield failed

    def _workers(self) -> Iterator[Family]:
        """Slots, devices and jobs of workers that live; `worker_queue` is a worker's kind."""
        labels = ("worker_queue",)
        states = GaugeMetricFamily("prunery_workers", "Worker processes.", labels=(*labels, "state"))
        slots = GaugeMetricFamily("prunery_worker_slots", "Jobs that live workers can run.", labels=labels)
        devices = GaugeMetricFamily("prunery_worker_devices", "GPUs of live workers.", labels=labels)
        running = GaugeMetricFamily("prunery_worker_running_jobs", "Jobs of live workers.", labels=labels)
        for queue in KINDS:
            alive = [worker for worker in self.workers if worker.queue == queue and not worker.stale]
            stale = sum(worker.queue == queue and worker.stale for worker in self.workers)
            states.add_metric((queue, "alive"), len(alive))
            states.add_metric((queue, "stale"), stale)
            slots.add_metric((queue,), sum(worker.slots for worker in alive))
            devices.add_metric((queue,), sum(len(worker.devices) for worker in alive))
            running.add_metric((queue,), sum(worker.running for worker in alive))
        yield from (states, slots, devices, running)


def _histogram(name: str, documentation: str, by_queue: Mapping[str, Histogram]) -> HistogramMetricFamily:
    family = HistogramMetricFamily(name, documentation, labels=("queue",))
    for queue, histogram in by_queue.items():
        buckets, seen = [], 0
        for bound, count in zip((*histogram.bounds, "+Inf"), histogram.counts, strict=True):
            seen += count
            buckets.append((str(bound), float(seen)))
        family.add_metric((queue,), buckets, histogram.total)
    return family
