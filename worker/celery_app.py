"""Everything that Celery is told. It brings rings; no job depends on what it delivers."""

from collections.abc import Sequence

from celery import Celery
from kombu import Exchange, Queue

from core.queues import broker_options
from core.settings import Settings


def make_celery(settings: Settings, queues: Sequence[str]) -> Celery:
    """The Celery application of a worker that takes from these queues; connects to nothing yet."""
    celery = Celery("prunery", broker=settings.broker_url, set_as_current=False)
    on_files = settings.broker_url.startswith("filesystem:")
    options = broker_options(settings)
    if on_files:
        options["polling_interval"] = (
            0.2  # seconds between looks into the folder; kombu's second delays ring and exit
        )
    celery.conf.update(
        # What is consumed
        task_queues=[Queue(taken, Exchange(taken), routing_key=taken) for taken in queues],
        task_default_queue=queues[0],  # nothing is ever sent to Celery's own default, "celery"
        task_create_missing_queues=False,  # a misspelled queue is an error, not a queue that nobody reads
        accept_content=["json"],  # nothing in a message is executed: no pickle
        task_serializer="json",
        # How a ring is treated
        task_acks_late=False,  # acknowledged on receipt: no visibility timeout, no second delivery
        task_ignore_result=True,  # the row is the result; there is no result backend
        task_store_errors_even_if_ignored=False,
        worker_prefetch_multiplier=1,  # a worker takes no more rings than it has slots ...
        worker_disable_prefetch=not on_files,  # ... and none while they are taken, where it can
        worker_enable_remote_control=not on_files,  # `celery inspect`; on files it would pile up replies
        # The process
        worker_pool="threads",  # solo answers no ping while it works, prefork may have no children
        worker_concurrency=settings.worker_slots,
        worker_hijack_root_logger=False,  # logging is the service's own
        worker_redirect_stdouts=False,
        worker_send_task_events=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,  # a lost broker is no reason to stop a job
        worker_detect_quorum_queues=False,  # a RabbitMQ matter
        # The broker
        broker_transport="worker.file_transport:Transport" if on_files else None,
        broker_transport_options=options,
        broker_connection_timeout=2.0,
        broker_connection_retry=True,
        broker_connection_retry_on_startup=True,  # it looks for jobs by itself until then
        broker_connection_max_retries=None,  # for ever
        broker_channel_error_retry=True,  # two workers may reach for one message file; the loser tries again
    )
    return celery
